//! Data segments that have been loaded before.
//!
//! A kernel loads the same few selectors on every entry and on every return. What the
//! rules of [`data_segment`](super::segment::data_segment) make of a descriptor follows
//! from its bytes, the selector and CPL, so the result is remembered with these, and
//! taken if the same bytes still lie in the table.

use super::crossing::{global, global_address};
use super::descriptor::{Descriptor, Selector};
use crate::vcpu::Cpu;
use translator::state::{FlatLoad, Segment};

/// Loads that are remembered, a power of two.
const LOADS: usize = 32;

#[derive(Clone, Copy)]
struct Load {
    cpl: u8,
    descriptor: Descriptor,
    segment: Segment,
}

/// The loads that are remembered, by the selector's lowest index bits.
pub struct Loads([Option<Load>; LOADS]);

impl Default for Loads {
    fn default() -> Self {
        Self([None; LOADS])
    }
}

fn place(selector: u16) -> usize {
    usize::from(selector >> 3) % LOADS
}

/// What DS, ES, FS or GS holds after a load of `selector`, if it was loaded before.
#[inline]
pub fn known(cpu: &mut Cpu, selector: u16) -> Option<Segment> {
    let load = cpu.loads.0[place(selector)].as_ref()?;
    let same = load.segment.selector == selector && load.cpl == cpu.sys.cpl;
    if !same || global(cpu, selector) != Some(load.descriptor) {
        return None;
    }
    let Load {
        descriptor,
        segment,
        ..
    } = *load;
    show(cpu, descriptor, &segment);
    Some(segment)
}

/// Shows direct code a load, if it may take the same itself: the segment is flat, and
/// any CPL can load it.
fn show(cpu: &mut Cpu, descriptor: Descriptor, segment: &Segment) {
    let flat = segment.base == 0 && segment.lo == 0 && segment.hi == u32::MAX;
    let selector = Selector(segment.selector);
    let at = global_address(cpu, segment.selector);
    if flat && descriptor.dpl() == 3 && !selector.is_local() {
        cpu.state.flat_load = FlatLoad {
            key: FlatLoad::key(segment),
            descriptor: u64::from(descriptor.low) | u64::from(descriptor.high) << 32,
            last_byte: at.wrapping_add(7),
        };
    }
}

/// GDTR has been loaded: descriptors are elsewhere.
pub fn forget_places(cpu: &mut Cpu) {
    cpu.state.flat_load = FlatLoad::NONE;
}

/// Remembers a load that has succeeded.
pub fn remember(cpu: &mut Cpu, segment: Segment) {
    let selector = Selector(segment.selector);
    if selector.is_null() {
        return;
    }
    if let Some(descriptor) = global(cpu, selector.0)
        && descriptor.segment(selector) == segment
        && segment.attributes & Segment::ACCESSED != 0
    {
        let cpl = cpu.sys.cpl;
        cpu.loads.0[place(selector.0)] = Some(Load {
            cpl,
            descriptor,
            segment,
        });
    }
}
