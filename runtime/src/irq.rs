//! Interrupt lines: the wire between a device and the interrupt controller.
//!
//! All devices live on the vCPU thread, so a wire needs no lock and no shared
//! cell: a device owns an [`IrqPin`] that it drives, and the board copies the
//! pin to the controller's input after each access and each poll. A pin keeps
//! one thing more than its level: whether it was low since it was last copied.
//! A timer that pulses between two copies is then still seen as an edge.

/// An interrupt request output of a device, as the device drives it.
#[derive(Clone, Copy, Debug, Default)]
pub struct IrqPin {
    level: bool,
    /// The line was low at some time since the last [`IrqPin::take`].
    dipped: bool,
}

/// What happened on a line since it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drive {
    /// The level now.
    pub level: bool,
    /// The line was low in between: if it is high now, it has risen.
    pub dipped: bool,
}

impl IrqPin {
    /// Drives the line high or low.
    #[inline]
    pub fn set(&mut self, level: bool) {
        self.dipped |= !level;
        self.level = level;
    }

    /// Drives the line low and then high: one edge, and the level stays high.
    #[inline]
    pub fn pulse(&mut self) {
        self.dipped = true;
        self.level = true;
    }

    /// The level now.
    #[inline]
    pub fn level(&self) -> bool {
        self.level
    }

    /// The level and whether the line was low since the last call.
    #[inline]
    pub fn take(&mut self) -> Drive {
        let dipped = core::mem::replace(&mut self.dipped, false);
        Drive {
            level: self.level,
            dipped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_between_two_looks_is_an_edge() {
        let mut pin = IrqPin::default();
        pin.set(true);
        pin.take();
        pin.pulse();
        assert_eq!(
            pin.take(),
            Drive {
                level: true,
                dipped: true
            }
        );
        assert_eq!(
            pin.take(),
            Drive {
                level: true,
                dipped: false
            }
        );
    }
}
