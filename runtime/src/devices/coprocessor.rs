//! What stands between the FPU and interrupt 13 on an AT's board (Intel
//! application note AP-578, "Software and Hardware Considerations for FPU
//! Exception Handlers").
//!
//! With CR0.NE clear the processor does not raise #MF but drives FERR#. A
//! flip-flop keeps its rising edge and drives IRQ 13. The handler writes to port
//! F0h, which resets the flip-flop and asserts IGNNE#, so that the handler's own
//! FPU instructions do not stop again; that ends when FERR# does.
//!
//! Offset 0 is port F0h, 1 port F1h, the reset of a 287, which does nothing here.

use crate::bus::{Device, undriven};
use crate::irq::IrqPin;

/// The error logic of the coprocessor.
#[derive(Default)]
pub struct Coprocessor {
    ferr: bool,
    ignne: bool,
    pin: IrqPin,
}

impl Coprocessor {
    /// The processor drives FERR#.
    pub fn set_ferr(&mut self, asserted: bool) {
        if asserted && !self.ferr {
            self.pin.set(true);
        }
        self.ferr = asserted;
        self.ignne &= asserted;
    }

    /// Whether FERR# is asserted.
    pub fn ferr(&self) -> bool {
        self.ferr
    }

    /// Whether the processor is to ignore pending exceptions.
    pub fn ignne(&self) -> bool {
        self.ignne
    }

    /// The interrupt request.
    pub fn pin(&mut self) -> &mut IrqPin {
        &mut self.pin
    }
}

impl Device for Coprocessor {
    fn read(&mut self, _offset: u16, size: u8) -> u32 {
        undriven(size)
    }

    fn write(&mut self, offset: u16, _size: u8, _value: u32) {
        if offset == 0 {
            self.pin.set(false);
            self.ignne = self.ferr;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_answers_the_interrupt_until_the_error_is_gone() {
        let mut logic = Coprocessor::default();
        logic.write(0, 1, 0);
        assert!(!logic.ignne(), "nothing to ignore");
        logic.set_ferr(true);
        assert!(logic.pin().level());
        logic.write(1, 1, 0);
        assert!(logic.pin().level());
        logic.write(0, 1, 0);
        assert!(!logic.pin().level() && logic.ignne());
        logic.set_ferr(true);
        assert!(!logic.pin().level(), "no new edge");
        logic.set_ferr(false);
        assert!(!logic.ignne());
        logic.set_ferr(true);
        assert!(logic.pin().level());
    }
}
