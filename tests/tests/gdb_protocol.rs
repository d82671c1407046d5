//! The debugger's port under clients that do not behave: noise, broken packets, ends in
//! the middle. Whatever they send, the machine goes on as documented.

use runtime::exit::Exit;
use runtime::loader::FlatMode;
use runtime::selftest::rng::Rng;
use tests::gdb::{Client, debugged};
use tests::machine::{Setup, TIERS};

/// Where the guest is loaded and entered.
const START: u32 = 0x10_0000;

/// Spins until the word at 200000h is not 0, then ends by 10h.
const GUEST: [u8; 15] = [
    0x83, 0x3d, 0x00, 0x00, 0x20, 0x00, 0x00, // spin: cmp dword [200000h], 0
    0x74, 0xf7, // je spin
    0xb0, 0x10, // mov al, 10h
    0xe6, 0xf4, // out 0f4h, al
    0xeb, 0xfe, // jmp $
];

fn setup<'a>(tier: runtime::config::Tier) -> Setup<'a> {
    Setup::flat(&GUEST, START, FlatMode::Protected32, tier)
}

/// Sets the word that the guest waits for, and detaches.
fn let_it_end(mut client: Client) {
    assert_eq!(client.ask("M200000,4:01000000").as_deref(), Some("OK"));
    assert_eq!(client.ask("D").as_deref(), Some("OK"));
}

#[test]
fn who_leaves_a_held_guest_leaves_it_held() {
    for (name, tier) in TIERS {
        let (ended, before) = debugged(&setup(tier), true, |address| {
            let mut client = Client::connect(address);
            client.ask("Z0,100009,1").expect("an answer");
            client.ask("vCont;s").expect("an answer");
            drop(client);
            let mut client = Client::connect(address);
            let registers = client.ask("g").expect("an answer");
            let_it_end(client);
            registers
        });
        // EIP is the ninth word: one instruction has run, and no breakpoint was left.
        assert_eq!(&before[64..72], "07001000", "{name}");
        assert_eq!(ended.exit, Exit::DebugExit(0x10), "{name}");
    }
}

#[test]
fn who_leaves_a_running_guest_leaves_it_running() {
    let (ended, ()) = debugged(&setup(TIERS[4].1), true, |address| {
        let mut client = Client::connect(address);
        client.send("vCont;c");
        drop(client);
        let_it_end(Client::connect(address));
    });
    assert_eq!(ended.exit, Exit::DebugExit(0x10));
}

#[test]
fn ctrl_c_is_heard_at_once_and_also_before_the_guest_runs() {
    let (ended, ()) = debugged(&setup(TIERS[4].1), true, |address| {
        let mut client = Client::connect(address);
        for _ in 0..20 {
            client.send("vCont;c");
            client.raw(&[3]);
            let stop = client.packet().expect("it stops");
            assert!(stop.starts_with("T02") || stop.starts_with("S02"), "{stop}");
        }
        let_it_end(client);
    });
    assert_eq!(ended.exit, Exit::DebugExit(0x10));
}

#[test]
fn noise_ends_the_connection_and_nothing_else() {
    for seed in 0..60 {
        let (ended, ()) = debugged(&setup(TIERS[seed % 5].1), seed % 2 == 0, |address| {
            let mut random = Rng::new(seed as u64);
            let mut client = Client::connect(address);
            if random.below(2) == 0 {
                client.ask("?").expect("an answer");
            }
            client.raw(&noise(&mut random));
            if random.below(2) == 0 {
                client.send("vCont;c");
                client.raw(&noise(&mut random));
            }
            drop(client);
            // Its packets may have made anything of the guest, even ended it.
            if let Some(mut client) = Client::try_connect(address) {
                client.send("k");
            }
        });
        assert_ne!(ended.exit, Exit::Timeout, "seed {seed}");
    }
}

/// Random bytes, or packets with sound frames and random bodies.
fn noise(random: &mut Rng) -> Vec<u8> {
    const KINDS: [&str; 24] = [
        "g",
        "G",
        "m",
        "M",
        "X",
        "P",
        "p",
        "Z0,",
        "Z2,",
        "z0,",
        "z4,",
        "vCont;",
        "vCont?",
        "qSupported:",
        "qXfer:features:read:target.xml:",
        "qRcmd,",
        "H",
        "T",
        "?",
        "c",
        "s",
        "vFile:open:",
        "QStartNoAckMode",
        "qC",
    ];
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(20) {
        if random.below(4) == 0 {
            let length = random.below(200);
            bytes.extend((0..length).map(|_| random.below(256) as u8));
            continue;
        }
        let mut body = random.pick(&KINDS).as_bytes().to_vec();
        for _ in 0..random.below(24) {
            let any = b"0123456789abcdef,;:-*}#$f".to_vec();
            body.push(random.pick(&any));
        }
        let sum = body.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
        bytes.push(b'$');
        bytes.extend(&body);
        bytes.extend(format!("#{sum:02x}").bytes());
    }
    bytes
}

#[test]
fn a_step_through_a_range_ends_behind_it_or_at_a_breakpoint() {
    for (name, tier) in TIERS {
        debugged(&setup(tier), true, |address| {
            let mut client = Client::connect(address);
            let packets = [
                ("vCont;r100000,100007:1", "07001000"),
                ("vCont;s:1", "00001000"),
                ("Z0,100007,1", "00001000"),
                ("vCont;r100000,100009:1", "07001000"),
            ];
            for (packet, eip) in packets {
                client.ask(packet).expect("an answer");
                let registers = client.ask("g").expect("an answer");
                assert_eq!(&registers[64..72], eip, "{name}, {packet}");
            }
            client.send("k");
        });
    }
}
