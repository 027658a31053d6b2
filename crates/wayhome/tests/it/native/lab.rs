//! Row 4 with real programs: `ssh`, `scp`, `sftp`, `rsync`, forwards; whole, and at once.

use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use wayhome_lab::needs_lab;

use super::seats::NativeSeats;
use crate::seats::{output, wayhome};

/// A service whose target is a small server of Python's, run by `program`.
const EXTRA: &str =
    "[[service]]\nname = \"extra\"\ntarget = \"127.0.0.1:9000\"\nproof = \"hold\"\n";

/// Serves each connection to port 9000 at home with a body in Python, in which `c` is the socket.
fn serve(seats: &NativeSeats, body: &str) -> crate::seats::Running {
    let indented = body.replace('\n', "\n        ");
    let program = format!(
        "import socket, threading, hashlib
def serve(c):
    try:
        {indented}
    except OSError: pass
    c.close()
s = socket.create_server(('127.0.0.1', 9000), backlog=100)
open('/tmp/serving', 'w')
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()"
    );
    let home = seats.lab.home();
    let mut python = home.command("python3");
    let running = crate::seats::Running(python.args(["-c", &program]).spawn().unwrap());
    wayhome_lab::assert_eventually!(
        home.file("/tmp/serving").exists(),
        within = crate::seats::SOON,
        "a server"
    );
    running
}

#[test]
fn ssh_scp_sftp_rsync_and_forwards() {
    needs_lab!();
    let seats = NativeSeats::start("");
    let agent = seats.agent();
    agent.until_up();
    let said = output(&mut seats.ssh("id -un; cat /proc/sys/kernel/hostname"));
    assert_eq!((said.0, said.1.as_str()), (0, "fan\nhome\n"), "{}", said.2);
    let (code, _, _) = output(&mut seats.ssh("exit 7"));
    assert_eq!(code, 7);

    seats.on_the_laptop(
        "set -e
        head -c 20000000 /dev/urandom > /tmp/there
        scp -q /tmp/there home-ubuntu:/tmp/f; scp -q home-ubuntu:/tmp/f /tmp/back
        cmp /tmp/there /tmp/back
        printf 'get /tmp/f /tmp/back2\\nput /tmp/there /tmp/g\\n' | sftp -q -b - home-ubuntu
        cmp /tmp/there /tmp/back2
        mkdir -p /tmp/tree/a; cp /tmp/there /tmp/tree/a/big; echo small > /tmp/tree/small
        rsync -a /tmp/tree/ home-ubuntu:/tmp/tree/; rsync -a home-ubuntu:/tmp/tree/ /tmp/tree2/
        diff -r /tmp/tree /tmp/tree2",
    );
    // -L to home's own sshd, and -D by way of a SOCKS client.
    seats.on_the_laptop(
        "set -e
        ssh -f -N -o ExitOnForwardFailure=yes -o ControlMaster=yes -o ControlPath=/tmp/c \
            -L 127.0.0.1:3022:127.0.0.1:22 -D 127.0.0.1:3080 home-ubuntu
        python3 -c \"
import socket
s = socket.create_connection(('127.0.0.1', 3022)); assert s.recv(99).startswith(b'SSH-2.0'); s.close()
s = socket.create_connection(('127.0.0.1', 3080))
s.sendall(b'\\x05\\x01\\x00'); assert s.recv(2) == b'\\x05\\x00'
s.sendall(b'\\x05\\x01\\x00\\x01\\x7f\\x00\\x00\\x01\\x00\\x16'); assert s.recv(10)[1] == 0
assert s.recv(99).startswith(b'SSH-2.0')\"
        ssh -o ControlPath=/tmp/c -O exit home-ubuntu 2>/dev/null",
    );
    // What home says of it, to be typed on the laptop.
    let (code, _, told) = output(&mut wayhome(seats.lab.home(), &["ssh-config", "--user", "fan"]));
    let host_key = seats.home_sshd.host_key_line();
    let connect =
        format!("wayhome ssh-config --connect home-ubuntu --user fan --host-key '{host_key}'");
    let told = told.replace("\n        ", " ");
    assert!(code == 2 && told.contains(&connect), "{told}");
    let status = seats.gateway().unwrap();
    let online = status.homes[0].online.as_ref().unwrap();
    assert!(online.services[0].proven_ms.is_some(), "{online:?}");
    assert_eq!(online.grant.as_deref(), Some("home"));
}

#[test]
fn eight_streams_both_ways_at_once_for_a_minute() {
    needs_lab!();
    let seats = NativeSeats::start(EXTRA);
    let _server =
        serve(&seats, "while True:\n    b = c.recv(65536)\n    if not b: break\n    c.sendall(b)");
    let agent = seats.agent();
    agent.until_up();
    let until = Instant::now() + Duration::from_secs(60);
    let streams: Vec<_> = (0..8_u64)
        .map(|seed| {
            let mut child = seats.connect("home-ubuntu:extra");
            let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            // Numbers, so that nothing can be lost, repeated or exchanged unseen.
            let numbers = move |from: u64| {
                let numbers = (from..from + 4096).map(|n| (n << 3) | seed);
                numbers.flat_map(u64::to_be_bytes).collect::<Vec<u8>>()
            };
            let writer = thread::spawn(move || {
                let mut next = 0;
                while Instant::now() < until {
                    to.write_all(&numbers(next)).unwrap();
                    next += 4096;
                }
                next
            });
            let reader = thread::spawn(move || {
                let (mut chunk, mut next) = (vec![0; 4096 * 8], 0);
                loop {
                    match from.read_exact(&mut chunk) {
                        Ok(()) => assert!(chunk == numbers(next), "stream {seed} at {next}"),
                        Err(why) => {
                            assert_eq!(why.kind(), std::io::ErrorKind::UnexpectedEof);
                            return next;
                        }
                    }
                    next += 4096;
                }
            });
            (child, writer, reader)
        })
        .collect();
    let mut all = 0;
    for (mut child, writer, reader) in streams {
        let (sent, came) = (writer.join().unwrap(), reader.join().unwrap());
        assert!(sent > 0 && sent == came, "{sent} of {came}");
        assert!(child.wait().unwrap().success());
        all += came * 8;
    }
    println!("{} MB each way in a minute", all / 1_000_000);
    assert!(agent.is_up() && agent.link().reconnects == 0, "{}", agent.log());
}

#[test]
fn five_gigabytes_arrive_whole() {
    needs_lab!();
    const SIZE: u64 = 5_000_000_000;
    let seats = NativeSeats::start(EXTRA);
    let body = "h = hashlib.sha1()\nwhile True:\n    b = c.recv(1 << 20)\n    if not b: break\n    h.update(b)\nc.sendall(h.hexdigest().encode())";
    let _server = serve(&seats, body);
    let agent = seats.agent();
    agent.until_up();
    // Noise that is cheap to make, the same each time.
    let script = format!(
        "openssl enc -aes-128-ctr -nosalt -pass pass:way -pbkdf2 < /dev/zero 2>/dev/null |
         head -c {SIZE} | tee /tmp/pipe | {} connect home-ubuntu:extra",
        env!("CARGO_BIN_EXE_wayhome")
    );
    let laptop = seats.lab.laptop();
    laptop.sh("mkfifo /tmp/pipe").unwrap();
    let mut sum = laptop.command("sha1sum");
    let sum = sum.arg("/tmp/pipe").stdout(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    let there = seats.on_the_laptop(&script);
    let took = began.elapsed();
    let here = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    println!("5 GB in {took:?}");
    assert_eq!(there, here.split_whitespace().next().unwrap());
}

#[test]
fn a_stalled_reader_beside_a_live_stream_and_a_target_that_closes_one_way() {
    needs_lab!();
    let seats = NativeSeats::start(EXTRA);
    // `s`: sends without an end. `e`: an echo. `o`: ends its way, and reads on.
    let body = "k = c.recv(1)\n\
        while k == b's': c.sendall(bytes(65536))\n\
        while k == b'e':\n    b = c.recv(65536)\n    if not b: break\n    c.sendall(b)\n\
        if k == b'o':\n    c.sendall(b'bye')\n    c.shutdown(socket.SHUT_WR)\n    n = 0\n    while True:\n        b = c.recv(65536)\n        if not b: break\n        n += len(b)\n    open('/tmp/heard', 'w').write(str(n))";
    let _server = serve(&seats, body);
    let agent = seats.agent();
    agent.until_up();

    let mut stalled = seats.connect("home-ubuntu:extra");
    stalled.stdin.as_mut().unwrap().write_all(b"s").unwrap();
    let before = resident(&seats);
    let mut live = seats.connect("home-ubuntu:extra");
    let (mut to, mut from) = (live.stdin.take().unwrap(), live.stdout.take().unwrap());
    to.write_all(b"e").unwrap();
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let began = Instant::now();
        to.write_all(b"ping").unwrap();
        from.read_exact(&mut [0; 4]).unwrap();
        slowest = slowest.max(began.elapsed());
        thread::sleep(Duration::from_millis(10));
    }
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    let grown = resident(&seats).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more at the gateway");
    drop(to);
    assert!(live.wait().unwrap().success());

    let mut one_way = seats.connect("home-ubuntu:extra");
    let (mut to, mut from) = (one_way.stdin.take().unwrap(), one_way.stdout.take().unwrap());
    to.write_all(b"o").unwrap();
    // Whether the end comes as well, the machine's own keeper hides, which holds the pipe too.
    let mut said = [0; 3];
    from.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"bye");
    to.write_all(&vec![7; 3_000_000]).unwrap();
    drop(to);
    assert!(one_way.wait().unwrap().success());
    let heard = || std::fs::read_to_string(seats.lab.home().file("/tmp/heard"));
    wayhome_lab::assert_eventually!(
        heard().is_ok_and(|heard| heard == "3000000"),
        within = crate::seats::SOON,
        "{:?}",
        heard()
    );
    // The stalled one can go at any time.
    stalled.kill().unwrap();
    stalled.wait().unwrap();
}

/// The gateway's memory, in bytes.
fn resident(seats: &NativeSeats) -> u64 {
    let pid = seats.gateway().unwrap().pid;
    let status = seats.lab.gateway().sh(&format!("cat /proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn whoever_cannot_get_home_reads_why() {
    needs_lab!();
    let seats = NativeSeats::start("");
    let said = |command: &mut std::process::Command| {
        let (code, out, error) = output(command);
        assert!(code != 0 && out.is_empty(), "{code} {out}");
        error
    };
    let offline = said(&mut seats.ssh("true"));
    assert!(offline.starts_with("wayhome: home-ubuntu is offline\n"), "{offline}");
    let agent = seats.agent();
    agent.until_up();
    drop(agent);
    let offline = said(&mut seats.ssh("true"));
    assert!(offline.starts_with("wayhome: home-ubuntu is offline, last seen "), "{offline}");
    let agent = seats.agent();
    agent.until_up();
    let none = said(&mut wayhome(seats.lab.laptop(), &["connect", "home-ubuntu:web"]));
    assert!(none.starts_with("wayhome: home-ubuntu has no service `web`"), "{none}");
}

#[test]
fn the_gateway_answers_its_own_user_and_root_alone() {
    needs_lab!();
    let seats = NativeSeats::start("");
    let gateway = seats.lab.gateway();
    gateway.add_user("amy", 3001, "/bin/sh").unwrap();
    let connect = "python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('/run/wayhome/gateway.sock')\" 2>&1";
    assert_eq!(gateway.sh(connect).unwrap(), "");
    let mut stranger = gateway.command_as("amy", "sh").unwrap();
    let (code, said, _) = output(stranger.args(["-c", connect]));
    assert!(code != 0 && said.contains("Permission denied"), "{said}");
    // Also where the folder would let her in.
    gateway.sh("chmod 711 /run/wayhome; chmod 666 /run/wayhome/gateway.sock").unwrap();
    let ask = "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/wayhome/gateway.sock')
s.sendall(b'\\\"status\\\"\\n'); print(len(s.recv(9999)))\" 2>&1";
    let asked = gateway.sh(ask).unwrap();
    assert!(asked.trim().parse::<u32>().is_ok_and(|length| length > 100), "{asked}");
    let mut stranger = gateway.command_as("amy", "sh").unwrap();
    let (_, said, _) = output(stranger.args(["-c", ask]));
    assert!(said.trim() == "0" || said.contains("reset") || said.contains("Broken pipe"), "{said}");
}

#[test]
fn what_a_gateway_writes_is_private() {
    needs_lab!();
    let seats = NativeSeats::start("");
    let modes = "stat -c '%a %n' /var/lib/wayhome /var/lib/wayhome/identity /run/wayhome \
                 /run/wayhome/gateway.sock";
    let modes = seats.lab.gateway().sh(modes).unwrap();
    assert_eq!(
        modes,
        "700 /var/lib/wayhome\n600 /var/lib/wayhome/identity\n700 /run/wayhome\n\
         600 /run/wayhome/gateway.sock\n"
    );
    assert!(!seats.gateway_log().contains("PRIVATE"));
}
