//! Blocks that forget their instructions: what is decoded again is what was decoded. That
//! guests do not notice is tested where code moves and changes, in `twins.rs`.

use runtime::builder::Builder;
use runtime::config::{Tier, VmConfig};
use runtime::embedded;
use runtime::exit::Exit;
use runtime::vm::Vm;

/// The embedded guest.
fn machine(tier: Tier) -> Vm {
    let config = VmConfig {
        tier,
        ..VmConfig::default()
    };
    Builder::new(config).build().expect("it can be built")
}

fn decoded(vm: &Vm) -> Vec<String> {
    vm.blocks().map(|block| format!("{block:?}")).collect()
}

#[test]
fn blocks_are_decoded_again_as_they_were() {
    let mut vm = machine(Tier::Interp);
    assert_eq!(vm.run(), Exit::DebugExit(embedded::SUCCESS));
    let before = decoded(&vm);
    vm.cache.rest();
    assert!(before.len() > 100, "{} blocks", before.len());
    assert_eq!(decoded(&vm), before);
}
