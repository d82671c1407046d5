//! The monitor over its socket: what it shows, what it changes, what it refuses.

use runtime::config::Tier;
use runtime::exit::Exit;
use runtime::loader::FlatMode;
use runtime::selftest::rng::Rng;
use runtime::vm::Vm;
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tests::gdb;
use tests::machine::{Setup, TIERS};
use tests::monitor::{Client, monitored, socket};

/// Where the guests are loaded and entered.
const START: u32 = 0x10_0000;

/// Counts in ECX until the word at 200000h is not 0, then ends by 10h.
const GUEST: [u8; 16] = [
    0x41, // spin: inc ecx
    0x83, 0x3d, 0x00, 0x00, 0x20, 0x00, 0x00, // cmp dword [200000h], 0
    0x74, 0xf6, // je spin
    0xb0, 0x10, // mov al, 10h
    0xe6, 0xf4, // out 0f4h, al
    0xeb, 0xfe, // jmp $
];

fn setup<'a>(tier: Tier) -> Setup<'a> {
    Setup::flat(&GUEST, START, FlatMode::Protected32, tier)
}

fn count(client: &mut Client) -> u64 {
    client.ask("info registers").unwrap()["ecx"]
        .as_u64()
        .unwrap()
}

#[test]
fn a_paused_guest_stands_and_goes_on() {
    for (name, tier) in TIERS {
        let (ended, ()) = monitored(&setup(tier), |path| {
            let mut client = Client::connect(path);
            assert_eq!(client.ask("info status").unwrap()["state"], "running");
            client.ask("pause").unwrap();
            let before = count(&mut client);
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert_eq!(count(&mut client), before, "{name}");
            assert_eq!(client.ask("info status").unwrap()["state"], "paused");
            client.ask("continue").unwrap();
            while count(&mut client) == before {}
            client.ask("quit").unwrap();
        });
        assert_eq!(ended.exit, Exit::Quit, "{name}");
    }
}

#[test]
fn a_step_is_one_instruction() {
    for (name, tier) in TIERS {
        let (ended, ()) = monitored(&setup(tier), |path| {
            let mut client = Client::connect(path);
            client.ask("pause").unwrap();
            // To the beginning of the loop.
            while client.ask("info registers").unwrap()["eip"] != START {
                client.ask("step").unwrap();
            }
            let before = count(&mut client);
            assert_eq!(client.ask("step").unwrap()["eip"], START + 1, "{name}");
            assert_eq!(count(&mut client), before + 1, "{name}");
            assert_eq!(client.ask("step 2").unwrap()["eip"], START, "{name}");
            assert_eq!(client.ask("step 3000").unwrap()["eip"], START, "{name}");
            assert_eq!(count(&mut client), before + 1001, "{name}");
            client.ask("quit").unwrap();
        });
        assert_eq!(ended.exit, Exit::Quit, "{name}");
    }
}

#[test]
fn memory_is_shown_in_formats() {
    monitored(&setup(Tier::Auto), |path| {
        let mut client = Client::connect(path);
        assert_eq!(
            client.typed("x/4xb 0x100000"),
            "00100000: 41 83 3d 00\n(ring1) "
        );
        assert_eq!(
            client.typed("xp /1xw 0x100000"),
            "00100000: 003d8341\n(ring1) "
        );
        assert_eq!(
            client.typed("x/2i 0x100000"),
            "00100000: inc ecx\n00100001: cmp dword ptr [200000h],0\n(ring1) "
        );
        client.ask("pause").unwrap();
        let eip = client.ask("info registers").unwrap()["eip"].clone();
        assert_eq!(client.ask("x $eip").unwrap()["address"], eip);
        let values = client.ask("x/2db 0x100000+1").unwrap();
        assert_eq!(values["values"], json!([0x83, 0x3d]));
        client.ask("quit").unwrap();
    });
}

#[test]
fn what_is_wrong_is_said() {
    let (ended, ()) = monitored(&setup(Tier::Auto), |path| {
        let mut client = Client::connect(path);
        for (command, reason) in [
            ("frobnicate", "there is no command `frobnicate`; try help"),
            ("info", ""),
            ("info nothing", "there is no topic `nothing`; try info"),
            ("x", "an address is missing"),
            ("x/4q 0", "`q` is neither a format nor a size; try help x"),
            ("x/99999xw 0", "from 1 to 16384 bytes can be shown at once"),
            (
                "x zero",
                "`zero` is no address such as 0xc0100000, $eip or $esp+8",
            ),
            (
                "x $eax+",
                "`` is no address such as 0xc0100000, $eip or $esp+8",
            ),
            (
                "xp 0xf0000000",
                "there is no memory at the physical address 0xf0000000",
            ),
            (
                "step 0",
                "a number of instructions is 1 to 1000000, not `0`",
            ),
            (
                "step -1",
                "a number of instructions is 1 to 1000000, not `-1`",
            ),
            ("pause now", "nothing is expected here, not `now`"),
            ("info blocks 0", "a number of blocks is 1 to 1000, not `0`"),
            (
                "dump",
                "`dump ` lacks something or is not known; try help dump",
            ),
            (
                "dump memory 0 0 f",
                "a number of bytes is 1 to 268435456, not `0`",
            ),
            (
                "dump memory 0 16 /proc/none/f",
                "cannot write /proc/none/f: No such file or directory (os error 2)",
            ),
            (
                "screenshot",
                "there is no screen: the guest's display is its serial port",
            ),
            (
                "reset",
                "this machine was put together by hand: nobody knows what to load",
            ),
            ("help frobnicate", "there is no command `frobnicate`"),
        ] {
            let outcome = client.ask(command);
            match reason {
                "" => assert!(outcome.is_ok(), "{command}: {outcome:?}"),
                reason => assert_eq!(outcome, Err(reason.into()), "{command}"),
            }
        }
        assert!(
            client
                .typed("nonsense")
                .starts_with("error: there is no command")
        );
        client.ask("quit").unwrap();
    });
    assert_eq!(ended.exit, Exit::Quit);
}

#[test]
fn requests_are_objects_with_a_command() {
    monitored(&setup(Tier::Auto), |path| {
        let mut client = Client::connect(path);
        assert_eq!(client.greeting["monitor"], "help lists the commands");
        let with_id = client.request(r#"{"command": "continue", "id": [1, "a"]}"#);
        assert_eq!(with_id, Some(json!({"ok": {}, "id": [1, "a"]})));
        for (request, reason) in [
            (
                r#"{"command": 5, "id": 7}"#,
                "`command` must be text, such as \"info registers\"",
            ),
            (r#"{}"#, "`command` is missing"),
            (
                r#"{"execute": "stop"}"#,
                "a request has `command` and `id`, not `execute`",
            ),
        ] {
            let answer = client.request(request).unwrap();
            assert_eq!(answer["error"], reason, "{request}");
        }
        let answer = client.request("{\"command\": ").unwrap();
        assert!(
            answer["error"]
                .as_str()
                .unwrap()
                .starts_with("this is no JSON: ")
        );
        client.ask("quit").unwrap();
    });
}

#[test]
fn every_command_and_topic_has_help_and_two_forms() {
    monitored(&setup(Tier::Auto), |path| {
        let mut client = Client::connect(path);
        let names = |list: Value| -> Vec<String> {
            let rows = list.as_array().unwrap().iter();
            rows.map(|row| row["name"].as_str().unwrap().to_owned())
                .collect()
        };
        for name in names(client.ask("help").unwrap()) {
            let help = client.ask(&format!("help {name}")).unwrap();
            assert!(!help["help"].as_str().unwrap().is_empty(), "{name}");
            let shown = client.typed(&format!("help {name}"));
            assert!(
                shown.starts_with(&name) && shown.lines().count() > 2,
                "{shown}"
            );
        }
        let topics = names(client.ask("info").unwrap());
        assert_eq!(topics.len(), 8);
        for name in topics {
            assert!(client.ask(&format!("help info {name}")).is_ok(), "{name}");
            assert!(client.ask(&format!("info {name}")).is_ok(), "{name}");
            let shown = client.typed(&format!("info {name}"));
            assert!(shown.lines().count() > 1, "{name}: {shown}");
        }
        client.ask("quit").unwrap();
    });
}

#[test]
fn the_ledger_opens_when_it_is_first_asked_for() {
    monitored(&setup(Tier::Auto), |path| {
        let mut client = Client::connect(path);
        assert_eq!(client.ask("info stats").unwrap().get("time"), None);
        std::thread::sleep(std::time::Duration::from_millis(50));
        let time = client.ask("info stats").unwrap()["time"].clone();
        let guest = |entry: &&Value| entry["name"] == "translated code";
        let accounts = time["accounts"].as_array().unwrap();
        let guest = accounts.iter().find(guest).unwrap()["cycles"].as_u64();
        // It does nothing else.
        assert!(guest > time["cycles"].as_u64().map(|all| all / 2), "{time}");
        client.ask("quit").unwrap();
    });
}

#[test]
fn blocks_and_memory_are_dumped() {
    monitored(&setup(Tier::Auto), |path| {
        let mut client = Client::connect(path);
        let at_start = |list: &Value| {
            let hottest = list["hottest"].as_array().unwrap();
            hottest.iter().any(|block| block["eip"] == START)
        };
        while !at_start(&client.ask("info blocks").unwrap()) {}
        let shown = client.typed("dump block 0x100000");
        assert!(shown.contains("inc ecx"), "{shown}");
        let file = socket();
        let name = file.to_str().unwrap();
        client.ask(&format!("dump block 0x100000 {name}")).unwrap();
        assert!(std::fs::read_to_string(&file).unwrap().contains("inc ecx"));
        client
            .ask(&format!("dump physical 0x100000 16 {name}"))
            .unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), GUEST);
        std::fs::remove_file(&file).unwrap();
        client.ask("quit").unwrap();
    });
}

/// Paging on: 0–4 MiB as they are, and ring 0 spins.
#[test]
fn the_tlb_shows_what_was_accessed() {
    let guest = [
        0xc7, 0x05, 0x00, 0x00, 0x30, 0x00, 0x83, 0x00, 0x00,
        0x00, // mov dword [300000h], 83h
        0xb8, 0x00, 0x00, 0x30, 0x00, // mov eax, 300000h
        0x0f, 0x22, 0xd8, // mov cr3, eax
        0xb8, 0x10, 0x00, 0x00, 0x00, // mov eax, 10h: PSE
        0x0f, 0x22, 0xe0, // mov cr4, eax
        0x0f, 0x20, 0xc0, // mov eax, cr0
        0x0d, 0x00, 0x00, 0x00, 0x80, // or eax, 80000000h
        0x0f, 0x22, 0xc0, // mov cr0, eax
        0xc6, 0x05, 0x05, 0x00, 0x20, 0x00, 0x01, // mov byte [200005h], 1
        0xff, 0x05, 0x10, 0x00, 0x20, 0x00, // next: inc dword [200010h]
        0xeb, 0xf8, // jmp next
    ];
    let setup = Setup::flat(&guest, START, FlatMode::Protected32, Tier::Direct);
    monitored(&setup, |path| {
        let mut client = Client::connect(path);
        while client.ask("info registers").unwrap()["cr0"]
            .as_u64()
            .unwrap()
            >> 31
            == 0
        {}
        let known = loop {
            let known = client.ask("info tlb 0x200005").unwrap();
            if known["shadow"] != Value::Null {
                break known;
            }
        };
        assert_eq!(
            (&known["guest"], &known["shadow"]),
            (&json!(0x20_0005), &json!(0x20_0005))
        );
        assert_eq!(known["rights"], "rw --");
        let unknown = client.ask("info tlb 0x800000").unwrap();
        assert_eq!(
            (&unknown["guest"], &unknown["shadow"]),
            (&Value::Null, &Value::Null)
        );
        let error = client.ask("x 0x800000").unwrap_err();
        assert_eq!(error, "no memory is mapped at 0x00800000");
        assert!(client.ask("info tlb").unwrap()["pages"].as_u64() >= Some(1));
        client.ask("quit").unwrap();
    });
}

/// Enables the power button's event, waits for the SCI, ends by the status it reads.
#[test]
fn the_power_button_is_an_acpi_event() {
    let guest = [
        0x66, 0xba, 0x02, 0x06, // mov dx, 602h: PM1_EN
        0x66, 0xb8, 0x00, 0x01, // mov ax, 100h
        0x66, 0xef, // out dx, ax
        0xb0, 0x0a, 0xe6, 0xa0, // mov al, 0ah; out 0a0h, al: the slave's requests
        0xe4, 0xa0, // again: in al, 0a0h
        0xa8, 0x02, // test al, 2
        0x74, 0xfa, // jz again
        0x66, 0xba, 0x00, 0x06, // mov dx, 600h: PM1_STS
        0x66, 0xed, // in ax, dx
        0x88, 0xe0, // mov al, ah
        0xe6, 0xf4, // out 0f4h, al
    ];
    for (name, tier) in TIERS {
        let setup = Setup::flat(&guest, START, FlatMode::Protected32, tier);
        let (ended, ()) = monitored(&setup, |path| {
            let mut client = Client::connect(path);
            // Behind the instruction that enables it.
            let ready = u64::from(START) + 10;
            while client.ask("info registers").unwrap()["eip"].as_u64() < Some(ready) {}
            assert_eq!(client.ask("power").unwrap()["enabled"], true, "{name}");
        });
        assert_eq!(ended.exit, Exit::DebugExit(1), "{name}");
    }
}

#[test]
fn several_clients_are_served_and_noise_harms_nobody() {
    let (ended, ()) = monitored(&setup(Tier::Auto), |path| {
        let mut first = Client::connect(path);
        for seed in 0..40 {
            let mut random = Rng::new(seed);
            let mut client = Client::connect(path);
            let length = random.below(6000);
            let noise: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            client.raw(&noise);
            client.raw(b"\n{\"command\": \"x/");
            if random.below(2) == 0 {
                client.raw(b"\n");
            }
            drop(client);
            assert_eq!(
                first.ask("info status").unwrap()["state"],
                "running",
                "seed {seed}"
            );
        }
        let mut long = Client::connect(path);
        let shown = long.typed(&"x".repeat(5000));
        assert!(shown.starts_with("error: a line has at most"), "{shown}");
        let many: Vec<UnixStream> = (0..40)
            .map_while(|_| UnixStream::connect(path).ok())
            .collect();
        assert_eq!(first.ask("info status").unwrap()["state"], "running");
        drop(many);
        first.ask("quit").unwrap();
    });
    assert_eq!(ended.exit, Exit::Quit);
}

/// Runs the guest with a port for debuggers, where it waits, and a monitor; and `watch`
/// with the port's address and the monitor's socket.
fn debugged_and_monitored(watch: impl FnOnce(&str, &Path) + Send) {
    let path = socket();
    let (ended, ()) = gdb::debugged_after(
        &setup(Tier::Auto),
        true,
        |vm| vm.listen_for_monitor(&path).expect("a socket"),
        |address| watch(address, &path),
    );
    assert_eq!(ended.exit, Exit::Quit);
}

#[test]
fn a_debugger_and_the_monitor_get_along() {
    debugged_and_monitored(|address, path| {
        let mut debugger = gdb::Client::connect(address);
        assert!(debugger.ask("?").is_some());
        let mut client = Client::connect(path);
        let held = client.ask("info status").unwrap();
        assert_eq!(held["state"], "held by the debugger");
        let refused = client.ask("step").unwrap_err();
        assert_eq!(refused, "a debugger is connected: step there");
        client.ask("pause").unwrap();
        // Detached, the guest stands for the monitor alone.
        assert_eq!(debugger.ask("D").as_deref(), Some("OK"));
        assert_eq!(client.ask("info status").unwrap()["state"], "paused");
        client.ask("step").unwrap();
        // Another debugger is heard although the guest is paused.
        let mut debugger = gdb::Client::connect(address);
        assert!(debugger.ask("g").is_some());
        debugger.send("k");
    });
}

/// Waits for an interrupt that never comes: a step takes for ever.
const SLEEPER: [u8; 4] = [
    0xfb, // sti
    0xf4, // hlt
    0xeb, 0xfd, // jmp $ - 1
];

fn sleeper<'a>() -> Setup<'a> {
    Setup::flat(&SLEEPER, START, FlatMode::Protected32, Tier::Auto)
}

#[test]
fn who_quits_ends_a_step() {
    let (ended, stepped) = monitored(&sleeper(), |path| {
        std::thread::scope(|scope| {
            let mut stepper = Client::connect(path);
            let stepped = scope.spawn(move || stepper.ask("step 9"));
            let mut client = Client::connect(path);
            while client.ask("info status").unwrap()["state"] != "stepping" {}
            client.ask("quit").unwrap();
            stepped.join().expect("an answer")
        })
    });
    assert_eq!(ended.exit, Exit::Quit);
    assert_eq!(stepped, Err("the step was ended before its time".into()));
}

#[test]
fn a_machine_that_goes_ends_a_step() {
    let mut setup = sleeper();
    setup.timeout = Duration::from_millis(300);
    let path = socket();
    let at = path.clone();
    let mut stepper = None;
    let ended = setup.run_after(|vm| {
        vm.listen_for_monitor(&path).expect("a socket");
        stepper = Some(std::thread::spawn(move || {
            Client::connect(&at).ask("step 9")
        }));
    });
    assert_eq!(ended.exit, Exit::Timeout);
    drop(ended);
    let stepped = stepper.expect("a thread").join().expect("an answer");
    assert_eq!(stepped, Err("the machine has ended".into()));
}

#[test]
fn a_debugger_that_comes_ends_a_step_and_one_that_has_gone_does_not() {
    debugged_and_monitored(|address, path| {
        let mut client = Client::connect(path);
        for _ in 0..20 {
            let mut debugger = gdb::Client::connect(address);
            assert!(debugger.ask("?").is_some());
            client.ask("pause").unwrap();
            assert_eq!(debugger.ask("D").as_deref(), Some("OK"));
            // The connection's end is heard meanwhile.
            client.ask("step 2000").unwrap();
        }
        client.raw(b"{\"command\": \"step 1000000\"}\n");
        let mut debugger = gdb::Client::connect(address);
        assert!(debugger.ask("?").is_some());
        let ended = client.json().expect("an answer");
        assert_eq!(ended["error"], "the step was ended before its time");
        debugger.send("k");
    });
}

#[test]
fn a_reset_starts_the_guest_over_also_while_it_stands() {
    let mut builder = Vm::builder().memory_mib(4).timeout(Duration::from_secs(30));
    let caller = builder.monitor();
    let built = builder.flat(GUEST, START, FlatMode::Protected32);
    let mut vm = built.build().expect("a machine");
    let watcher = std::thread::spawn(move || {
        let ask = |line: &str| caller.command(line).map(|answer| answer.data);
        ask("pause").unwrap();
        ask("reset").unwrap();
        let registers = ask("info registers").unwrap();
        assert_eq!(
            (&registers["eip"], &registers["ecx"]),
            (&json!(START), &json!(0))
        );
        assert_eq!(ask("info status").unwrap()["state"], "paused");
        ask("step 3").unwrap();
        ask("continue").unwrap();
        while ask("info registers").unwrap()["ecx"].as_u64() < Some(1000) {}
        ask("reset").unwrap();
        ask("info registers").unwrap();
        ask("quit").unwrap();
        assert_eq!(ask("info status"), Err("the machine has ended".into()));
    });
    assert_eq!(vm.run(), Exit::Quit);
    drop(vm);
    watcher.join().expect("the commands end");
}
