//! The guest's image: code, descriptor tables, page tables.

use super::*;
use iced_x86::BlockEncoderOptions;
use iced_x86::code_asm::CodeLabel;

/// Memory from [`START`] on.
struct Memory(Vec<u8>);

impl Memory {
    fn put(&mut self, at: u32, bytes: &[u8]) {
        let from = (at - START) as usize;
        self.0[from..from + bytes.len()].copy_from_slice(bytes);
    }

    fn put_words(&mut self, at: u32, words: &[u32]) {
        for (n, word) in words.iter().enumerate() {
            self.put(at + 4 * n as u32, &word.to_le_bytes());
        }
    }
}

/// Descriptors in the order of [`selector`]: access byte and base, all without a limit.
const DESCRIPTORS: [(u32, u32); 18] = [
    (0, 0),
    (0x9b, 0),
    (0x93, 0),
    (0xfb, 0),
    (0xf3, 0),
    (0x9b, 0),
    (0, 0),
    (0x9b, 0),
    (0x93, 0),
    (0xf3, BASE),
    (0xf3, 0),
    (0x93, 0),
    (0x9b, 0),
    (0x93, 0),
    (0xfb, 0),
    (0xf3, 0),
    (0, 0),
    (0x93, BASE),
];

fn descriptors() -> Vec<u32> {
    let mut words = Vec::new();
    for (n, (access, base)) in DESCRIPTORS.into_iter().enumerate() {
        let [low, high] = match (n as u32 * 8, access) {
            (selector::TSS, _) => [
                TSS << 16 | 0x67,
                TSS & 0xff00_0000 | 0x8b00 | TSS >> 16 & 0xff,
            ],
            (_, 0) => [0, 0],
            _ => [base << 16 | 0xffff, 0x00cf_0000 | access << 8],
        };
        words.extend([low, high]);
    }
    words
}

/// A gate of ring 3's reach if it is a system call's.
fn gate(vector: u32, code: u32, offset: u32) -> [u32; 2] {
    let access = if vector >= CALL { 0xee00 } else { 0x8e00 };
    [code << 16 | offset & 0xffff, offset & 0xffff_0000 | access]
}

pub fn image() -> Result<Vec<u8>, IcedError> {
    let mut memory = Memory(vec![0; 0x10_0000]);
    let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let mut a = CodeAssembler::new(32)?;
    let mut entries = kernel::write(&mut a)?;
    let code = a.assemble_options(START.into(), options)?;
    memory.put(START, &code.inner.code_buffer);
    let address = |label: &mut CodeLabel| code.label_ip(label).map(|ip| ip as u32);
    let usual = address(&mut entries.call)?;
    let other = address(&mut entries.other_call)?;
    for (vector, label) in &mut entries.handlers {
        let words = gate(*vector, selector::HANDLER_CODE, address(label)?);
        for table in [IDT, OTHER_IDT] {
            memory.put_words(table + 8 * *vector, &words);
        }
    }
    let calls = [
        (IDT, CALL, usual),
        (IDT, OTHER_CALL, other),
        (OTHER_IDT, CALL, other),
        (OTHER_IDT, OTHER_CALL, other),
    ];
    for (table, vector, offset) in calls {
        let words = gate(vector, selector::KERNEL_CODE, offset);
        memory.put_words(table + 8 * vector, &words);
    }
    for (n, label) in (0..).zip(&mut entries.labels) {
        memory.put_words(LABELS + 4 * n, &[address(label)?]);
    }
    let idt = memory.0[(IDT - START) as usize..][..0x800].to_vec();
    memory.put(SAVED_IDT, &idt);
    put_descriptors(&mut memory);
    put_pages(&mut memory);
    for (at, constant) in [(USER, 3), (OTHER_USER, 5)] {
        let mut a = CodeAssembler::new(32)?;
        user::write(&mut a, constant)?;
        let code = a.assemble(USER.into())?;
        assert!(code.len() < 0x1000, "the user's code is a page");
        memory.put(at, &code);
    }
    memory.put_words(USER_DATA, &[0x1234_5678, 0x9abc_def0]);
    memory.put_words(MARK, &[7]);
    memory.put_words(MARK + BASE, &[11]);
    memory.put_words(MARK + 2 * BASE, &[13]);
    // Where the page behind that of the split stack would be, and is not.
    memory.put_words(
        SPLIT_STACK & !0xfff,
        &[USER_STACK - 0x100, selector::USER_STACK],
    );
    // RET
    memory.put(CODE_PAGE, &[0xc3]);
    Ok(memory.0)
}

fn put_descriptors(memory: &mut Memory) {
    for table in [GDT, OTHER_GDT, SAVED_GDT] {
        memory.put_words(table, &descriptors());
    }
    memory.put_words(OTHER_GDT + selector::PER_CPU, &[(2 * BASE) << 16 | 0xffff]);
    // Execute only.
    memory.put(OTHER_GDT + selector::KERNEL_CODE + 5, &[0x99]);
    memory.put_words(TSS + 4, &[STACKS[0], selector::KERNEL_STACK]);
    memory.put_words(TSS + 100, &[0x68 << 16]);
    let tables = [
        (GDT, selector::END - 1),
        (OTHER_GDT, selector::END - 1),
        (GDT, selector::PER_CPU - 1),
        (IDT, 0x7ff),
        (OTHER_IDT, 0x7ff),
        (IDT, 8 * CALL + 6),
    ];
    for (n, (base, limit)) in tables.into_iter().enumerate() {
        memory.put_words(OPERANDS + 8 * n as u32, &[base << 16 | limit, base >> 16]);
    }
}

fn put_pages(memory: &mut Memory) {
    for (n, space) in SPACES.into_iter().enumerate() {
        let table = space + 0x1000;
        memory.put_words(space, &[table | 7]);
        for page in 0..1024 {
            let linear = page << 12;
            let user = (USER..USER + 0x4000).contains(&linear);
            let frame = match (linear, n) {
                (USER, 1) => OTHER_USER,
                (0x1b_1000, _) => 0x1b_5000,
                _ => linear,
            };
            let rights = if user { 7 } else { 3 };
            memory.put_words(table + 4 * page, &[frame | rights]);
        }
    }
}
