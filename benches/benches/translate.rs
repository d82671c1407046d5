//! What a translation costs: decoding by the instruction, compiling by the block.

use benches::cpu_time::CpuTime;
use benches::guest::{CODE, assemble};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use std::hint::black_box;
use translator::block::Block;
use translator::compile::{CompileRequest, Compiler};
use translator::decode::decode_block;
use translator::direct::DirectCompiler;
use translator::mode::Mode;

/// Lengths of the blocks, in instructions. The average block of a booting kernel has five.
const LENGTHS: [usize; 3] = [5, 10, 50];

/// One of ten instructions as compilers write them.
fn typical(a: &mut CodeAssembler, n: usize) -> Result<(), IcedError> {
    match n % 10 {
        0 => a.mov(eax, dword_ptr(ebp + 8)),
        1 => a.add(eax, ebx),
        2 => a.mov(dword_ptr(esp + 4), eax),
        3 => a.lea(esi, eax + ecx * 4 + 16),
        4 => a.movzx(edx, byte_ptr(esi)),
        5 => a.and(edx, 15),
        6 => a.shl(edx, 2),
        7 => a.mov(edi, dword_ptr(edi + 12)),
        8 => a.sub(ebx, edi),
        _ => a.push(ebx),
    }
}

/// `count` instructions, the last two a compare and its branch.
fn code(count: usize) -> Vec<u8> {
    assemble(|a| {
        let mut end = a.create_label();
        (0..count - 2).try_for_each(|n| typical(a, n))?;
        a.cmp(eax, ecx)?;
        a.je(end)?;
        a.set_label(&mut end)?;
        a.nop()
    })
}

fn block(count: usize) -> Block {
    let block =
        decode_block(&code(count), CODE, Mode::flat32(), count).expect("whole instructions");
    assert_eq!(block.insns.len(), count);
    block
}

fn request(block: &Block, mirrored: bool) -> CompileRequest<'_> {
    CompileRequest {
        block,
        link_base: 0,
        grouped: true,
        native_vectors: true,
        mirrored,
        gs: mirrored,
        callout_base: 0,
        listing: false,
    }
}

fn decode_benches(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("decode");
    for count in LENGTHS {
        let bytes = code(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| decode_block(black_box(&bytes), CODE, Mode::flat32(), count));
        });
    }
}

fn compile_benches(c: &mut Criterion<CpuTime>) {
    let mut compiler = Compiler::new().expect("a host that Cranelift knows");
    let mut group = c.benchmark_group("compile");
    for count in LENGTHS {
        let block = block(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| compiler.compile(&request(black_box(&block), false)));
        });
    }
}

/// The direct tier, with lookups and for the mirror.
fn direct_benches(c: &mut Criterion<CpuTime>) {
    let mut compiler = DirectCompiler::new();
    for (name, mirrored) in [("direct", false), ("mirror", true)] {
        let mut group = c.benchmark_group(name);
        for count in LENGTHS {
            let block = block(count);
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(BenchmarkId::from_parameter(count), |b| {
                b.iter(|| compiler.compile(&request(black_box(&block), mirrored)));
            });
        }
    }
}

criterion_group! {
    name = translate;
    config = Criterion::default().with_measurement(CpuTime);
    targets = decode_benches, compile_benches, direct_benches
}
criterion_main!(translate);
