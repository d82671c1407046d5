//! What the assembler puts together, as a disassembler reads it.

use super::*;
use iced_x86::{Decoder, DecoderOptions};

fn text(emit: impl FnOnce(&mut Assembler)) -> String {
    let mut asm = Assembler::default();
    emit(&mut asm);
    let decoder = Decoder::new(64, &asm.bytes, DecoderOptions::NONE);
    let lines: Vec<String> = decoder.into_iter().map(|i| i.to_string()).collect();
    lines.join("; ")
}

#[test]
fn memory_operands_are_encoded() {
    let cases = [
        (Mem::at(reg::R12, 0), "lea r8d,[r12]"),
        (Mem::at(reg::RBP, 0), "lea r8d,[rbp]"),
        (Mem::at(reg::R13, 300), "lea r8d,[r13+12Ch]"),
        (Mem::indexed(reg::R12, reg::RDI, 3), "lea r8d,[r12+rdi*8]"),
        (Mem::indexed(reg::RAX, reg::R12, 0), "lea r8d,[rax+r12]"),
    ];
    for (m, wanted) in cases {
        assert_eq!(text(|a| a.lea(Size::D, reg::R8, m)), wanted);
    }
    let no_base = Mem {
        base: None,
        index: Some((reg::R9, 2)),
        ..Mem::at(reg::RAX, -4)
    };
    let wanted = "lea r10,[r9*4-4]";
    assert_eq!(text(|a| a.lea(Size::Q, reg::R10, no_base)), wanted);
    let (gs, wrapped) = (Via::Gs, Via::GsWrapped);
    let absolute = Mem {
        base: None,
        ..Mem::at(reg::RAX, 16)
    };
    let cases = [
        (gs, Mem::at(reg::RBX, 8), "mov eax,[gs:rbx+8]"),
        (gs, Mem::at(reg::R12, -4), "mov eax,[gs:r12-4]"),
        (gs, absolute, "mov eax,[gs:10h]"),
        (wrapped, absolute, "mov eax,[gs:10h]"),
        (wrapped, no_base, "mov eax,[gs:r9d*4-4]"),
        (
            wrapped,
            Mem::indexed(reg::R12, reg::RDI, 3),
            "mov eax,[gs:r12d+edi*8]",
        ),
    ];
    for (via, m, wanted) in cases {
        let m = Mem { via, ..m };
        assert_eq!(text(|a| a.load(Size::D, reg::RAX, m)), wanted);
    }
}

#[test]
fn flag_sparing_operations_are_encoded() {
    let pext = text(|a| a.pext(reg::RCX, reg::R8, reg::RCX));
    assert_eq!(pext, "pext ecx,r8d,ecx");
    let pext = text(|a| a.pext_mem(reg::R9, reg::R8, Mem::at(reg::R15, 60)));
    assert_eq!(pext, "pext r9d,r8d,[r15+3Ch]");
    let pdep = text(|a| a.pdep(reg::R9, reg::R9, reg::R11));
    assert_eq!(pdep, "pdep r9d,r9d,r11d");
    let pdep = text(|a| a.pdep_mem(reg::R9, reg::R9, Mem::at(reg::R15, 60)));
    assert_eq!(pdep, "pdep r9d,r9d,[r15+3Ch]");
    let shift = text(|a| a.shift_right_signed(reg::R9, reg::RCX, reg::R11));
    assert_eq!(shift, "sarx r9d,ecx,r11d");
    let rotate = text(|a| a.rotate_right(reg::R9, reg::R8, 12));
    assert_eq!(rotate, "rorx r9d,r8d,0Ch");
    let swap = text(|a| a.rotate_right_wide(reg::R11, reg::R11, 32));
    assert_eq!(swap, "rorx r11,r11,20h");
    assert_eq!(text(|a| a.not(Size::Q, reg::R10)), "not r10");
}

#[test]
fn branches_land() {
    let code = text(|a| {
        let over = a.jrcxz();
        let far = a.jump();
        a.land(over);
        a.land(far);
        a.ret();
    });
    assert_eq!(code, "jrcxz 7; jmp 7; ret");
}

#[test]
fn jumps_back_are_short_where_they_reach() {
    for (bytes, jcc, jmp) in [(126, 2, 2), (127, 6, 5)] {
        for (conditional, length) in [(true, jcc), (false, jmp)] {
            let mut asm = Assembler::default();
            asm.raw(&vec![0x90; bytes]);
            match conditional {
                true => asm.jump_back_if(8, 0),
                false => asm.jump_to(0),
            }
            assert_eq!(asm.here(), bytes + length);
            assert!(!asm.out_of_reach);
            let mut decoder = Decoder::new(64, &asm.bytes, DecoderOptions::NONE);
            let last = decoder.iter().last().unwrap();
            assert_eq!(last.near_branch_target(), 0);
        }
    }
}
