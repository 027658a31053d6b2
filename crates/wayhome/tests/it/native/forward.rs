//! `wayhome forward` and `wayhome open`, with real servers at home and real clients on the laptop.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

use wayhome_lab::{assert_eventually, needs_lab};

use super::seats::NativeSeats;
use crate::seats::{Running, SOON, output, wayhome};

/// The web at home, as people have it: a page on 8080, TLS on 8443, and a WebSocket.
const SERVICES: &str = "\
    [[service]]\nname = \"web\"\ntarget = \"localhost:8080\"\nproof = \"http\"\n\
    [[service]]\nname = \"secure\"\ntarget = \"localhost:8443\"\nproof = \"tls\"\n\
    [[service]]\nname = \"socket\"\ntarget = \"localhost:8090\"\nproof = \"http\"\n";

/// Answers each request with a body that its path makes, over one connection for as many as come.
const WEB: &str = "
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = hashlib.sha256(self.path.encode()).digest() * 3200
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
ThreadingHTTPServer(('127.0.0.1', 8080), Handler).serve_forever()
";

/// Gives each message back.
const WEBSOCKET: &str = "
import asyncio, websockets
async def echo(socket, *_):
    async for message in socket: await socket.send(message)
async def main():
    async with websockets.serve(echo, '127.0.0.1', 8090, max_size=None): await asyncio.Future()
asyncio.run(main())
";

/// 240 requests without waiting for an answer, and 24 MB of answers.
const PIPELINED: &str = "
import hashlib, http.client, socket, sys, threading
target = sys.argv[1]
if target.startswith('/'):
    s = socket.socket(socket.AF_UNIX); s.connect(target)
else:
    s = socket.create_connection(('localhost', int(target)))
paths = ['/%d' % n for n in range(240)]
def ask():
    for path in paths: s.sendall(('GET %s HTTP/1.1\\r\\nHost: home\\r\\n\\r\\n' % path).encode())
threading.Thread(target=ask).start()
stream, total = s.makefile('rb'), 0
for path in paths:
    assert stream.readline() == b'HTTP/1.1 200 OK\\r\\n'
    headers = http.client.parse_headers(stream)
    body = stream.read(int(headers['Content-Length']))
    assert body == hashlib.sha256(path.encode()).digest() * 3200, path
    total += len(body)
print(total)
";

/// Texts and bytes there and back, small ones and large ones, and an end that both agree on.
const TALK: &str = "
import asyncio, os, sys, websockets
async def main():
    async with websockets.connect('ws://localhost:%s/' % sys.argv[1], max_size=None) as socket:
        for message in ['hello', 'x' * 70000, os.urandom(3000000), b'']:
            await socket.send(message)
            assert await socket.recv() == message
        await socket.ping()
    print(socket.close_code)
asyncio.run(main())
";

struct Home<'a> {
    seats: &'a NativeSeats,
    _servers: Vec<Running>,
}

impl<'a> Home<'a> {
    fn start(seats: &'a NativeSeats) -> Self {
        let home = seats.lab.home();
        home.sh("cd /tmp && openssl req -x509 -newkey ed25519 -nodes -subj /CN=home -days 2 \
             -keyout tls.key -out tls.crt 2> /dev/null")
            .unwrap();
        let mut servers = Vec::new();
        for program in [WEB, WEBSOCKET] {
            servers.push(Running(
                home.command("/usr/bin/python3").args(["-c", program]).spawn().unwrap(),
            ));
        }
        let mut secure = home.command("openssl");
        secure.args(["s_server", "-accept", "127.0.0.1:8443", "-www", "-quiet"]);
        secure.args(["-key", "/tmp/tls.key", "-cert", "/tmp/tls.crt"]).stdin(Stdio::null());
        servers.push(Running(secure.stdout(Stdio::null()).spawn().unwrap()));
        for port in [8080, 8443, 8090] {
            let listens = || home.sh(&format!("ss -lnt | grep -q :{port}")).is_ok();
            assert_eventually!(listens(), within = SOON, "nobody listens on {port}");
        }
        Self { seats, _servers: servers }
    }

    /// On the laptop, until it is dropped; with its first lines of output.
    fn wayhome(&self, arguments: &[&str]) -> Runs {
        let mut command = wayhome(self.seats.lab.laptop(), arguments);
        let log = fs::File::create(self.log()).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Runs { child: Running(child), out }
    }

    fn log(&self) -> std::path::PathBuf {
        self.seats.lab.laptop().file("/tmp/forward.log")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap()
    }

    fn python(&self, program: &str, argument: &str) -> String {
        let mut python = self.seats.lab.laptop().command("/usr/bin/python3");
        let (code, out, error) = output(python.args(["-c", program, argument]));
        assert_eq!(code, 0, "{error}\n{}", self.said());
        out.trim_end().to_owned()
    }
}

struct Runs {
    child: Running,
    out: BufReader<ChildStdout>,
}

impl Runs {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Ends it as a person does, and gives its exit code.
    fn interrupt(mut self) -> i32 {
        let child: &mut Child = &mut self.child.0;
        // Between it and us stands what brought it into the machine.
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let pid = fs::read_to_string(children).unwrap().trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let code = child.wait().unwrap().code().unwrap();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        code
    }
}

#[test]
fn pipelined_http_a_websocket_and_tls_through_forwards() {
    needs_lab!();
    let seats = NativeSeats::start(SERVICES);
    let home = Home::start(&seats);
    let agent = seats.agent();
    agent.until_up();

    let mut forward = home.wayhome(&[
        "forward",
        "home-ubuntu:web",
        "8080",
        "home-ubuntu:web",
        "/tmp/web.sock",
        "home-ubuntu:socket",
        "localhost:8090",
        "home-ubuntu:secure",
        "--json",
    ]);
    let shown: serde_json::Value = serde_json::from_str(&forward.line()).unwrap();
    let listen = |place: usize| shown["forwards"][place]["listen"].clone();
    assert_eq!(listen(0), serde_json::json!(["127.0.0.1:8080", "[::1]:8080"]), "{shown}");
    assert_eq!(listen(1), serde_json::json!(["/tmp/web.sock"]), "{shown}");
    assert_eq!(shown["forwards"][2]["service"], "socket");

    for target in ["8080", "/tmp/web.sock"] {
        assert_eq!(home.python(PIPELINED, target), "24576000", "{target}");
    }
    assert_eq!(home.python(TALK, "8090"), "1000", "a clean end");
    let secure = listen(3)[0].as_str().unwrap().to_owned();
    let page = seats.on_the_laptop(&format!("curl -sS --insecure https://{secure}/"));
    assert!(page.contains("Secure Renegotiation"), "{page}");

    assert_eq!(forward.interrupt(), 0);
    assert!(!seats.lab.laptop().file("/tmp/web.sock").exists(), "it goes with its forward");
    assert_eq!(home.said(), "");
}

#[test]
fn homes_are_the_names_behind_a_socks_proxy() {
    needs_lab!();
    let seats = NativeSeats::start(SERVICES);
    let home = Home::start(&seats);
    let agent = seats.agent();
    agent.until_up();

    let mut forward = home.wayhome(&["forward", "-D", "1080"]);
    assert!(forward.line().contains("SOCKS proxy 127.0.0.1:1080 and [::1]:1080"));
    let curl = |url: &str| {
        let mut curl = seats.lab.laptop().command("curl");
        curl.args(["-sS", "-o", "/tmp/page", "-x", "socks5h://localhost:1080", url]);
        output(&mut curl)
    };
    for url in ["http://web.home-ubuntu/0", "http://home-ubuntu:8080/0", "http://WEB.Home-Ubuntu/0"]
    {
        let (code, _, error) = curl(url);
        assert_eq!(code, 0, "{url}: {error}\n{}", home.said());
        assert_eq!(fs::metadata(seats.lab.laptop().file("/tmp/page")).unwrap().len(), 102_400);
    }
    let ssh = "ssh -o ProxyCommand='python3 /tmp/socks.py %h %p' -o StrictHostKeyChecking=no \
         -o BatchMode=yes -i /tmp/key fan@home-ubuntu id -un";
    let relay = "
import os, socket, struct, sys, threading
s = socket.create_connection(('localhost', 1080)); name = sys.argv[1].encode()
s.sendall(b'\\5\\1\\0'); assert s.recv(2) == b'\\5\\0'
s.sendall(b'\\5\\1\\0\\3' + bytes([len(name)]) + name + struct.pack('>H', int(sys.argv[2])))
assert s.recv(10)[:2] == b'\\5\\0'
def there():
    while True:
        part = os.read(0, 65536)
        if not part: return s.shutdown(socket.SHUT_WR)
        s.sendall(part)
threading.Thread(target=there, daemon=True).start()
while True:
    part = s.recv(65536)
    if not part: break
    os.write(1, part)
";
    fs::write(seats.lab.laptop().file("/tmp/socks.py"), relay).unwrap();
    seats.on_the_laptop("mv ~/.ssh/config ~/.ssh/config.away");
    assert_eq!(seats.on_the_laptop(ssh).trim_end(), "fan");

    // What cannot be is answered as SOCKS has it, and the person reads why.
    for (url, code, part) in [
        ("http://home-ubuntu:81/", 97, "home-ubuntu has no service `port-81`"),
        ("http://nothing.home-ubuntu/", 97, "home-ubuntu has no service `nothing`"),
        ("http://attic/", 97, "`attic` is not pinned here"),
        ("http://www.example.org/", 97, "`www.example.org` is no home"),
        ("http://203.0.113.10/", 97, "is an address, and homes have names"),
    ] {
        let (ended, _, error) = curl(url);
        assert_eq!(ended, code, "{url}: {error}");
        assert_eventually!(home.said().contains(part), within = SOON, "{url}: {}", home.said());
    }
    // Whoever speaks something else gets nothing, and keeps nobody from it.
    seats.on_the_laptop("! curl -sS http://localhost:1080/ 2> /dev/null");
    assert_eq!(curl("http://web.home-ubuntu/0").0, 0);
    assert_eq!(forward.interrupt(), 0);
}

#[test]
fn a_page_is_opened_in_the_browser_that_there_is() {
    needs_lab!();
    let seats = NativeSeats::start(SERVICES);
    let home = Home::start(&seats);
    let agent = seats.agent();
    agent.until_up();

    let laptop = seats.lab.laptop();
    let browser = "#!/bin/sh\nprintf %s \"$1\" > /tmp/opened.new\nmv /tmp/opened.new /tmp/opened\n";
    fs::write(laptop.file("/tmp/browser"), browser).unwrap();
    laptop.sh("chmod +x /tmp/browser").unwrap();
    for (service, scheme) in [("web", "http"), ("secure", "https")] {
        let mut command = wayhome(laptop, &["open", &format!("home-ubuntu:{service}")]);
        command.env("BROWSER", "/tmp/browser").stderr(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut opened = Runs { child: Running(child), out };
        let url = opened.line();
        assert!(url.starts_with(&format!("{scheme}://127.0.0.1:")), "{url}");
        let seen = || fs::read_to_string(laptop.file("/tmp/opened")).unwrap_or_default();
        assert_eventually!(seen() == url, within = SOON, "{}", seen());
        seats.on_the_laptop(&format!("curl -sS --insecure -o /tmp/page {url}"));
        assert_eq!(opened.interrupt(), 0);
    }
    // Without one the address is enough; and what cannot be had is said at once.
    let mut opened = home.wayhome(&["open", "home-ubuntu:web", "8080"]);
    assert_eq!(opened.line(), "http://127.0.0.1:8080/");
    assert_eq!(opened.interrupt(), 0);
    let (code, out, error) = output(&mut wayhome(laptop, &["open", "home-ubuntu:nothing"]));
    assert_eq!((code, out.as_str()), (1, ""), "{error}");
    assert!(error.contains("home-ubuntu has no service `nothing`"), "{error}");
}

#[test]
fn what_cannot_be_is_said_before_anything_is_listened_at() {
    needs_lab!();
    let seats = NativeSeats::start(SERVICES);
    let laptop = seats.lab.laptop();
    let _taken = Running(
        laptop
            .command("/usr/bin/python3")
            .args(["-m", "http.server", "8080"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    assert_eventually!(laptop.sh("ss -lnt | grep -q :8080").is_ok(), within = SOON, "no server");
    for (arguments, code, part) in [
        (&["home-ubuntu:web", "8080"][..], 1, "`127.0.0.1:8080` cannot be listened at"),
        (&["home-ubuntu:web", "8081", "8082"], 2, "nothing is said to lead to `8082`"),
        (&["attic:web", "8081"], 2, "`attic` is not pinned here"),
        (&["home-ubuntu:web", "203.0.113.99:8081"], 1, "cannot be listened at"),
        (&["home-ubuntu:web", "/etc/hostname"], 1, "cannot be listened at"),
        (&[], 2, "HOME:SERVICE"),
    ] {
        let all = [&["forward"][..], arguments].concat();
        let (ended, out, error) = output(&mut wayhome(laptop, &all));
        assert_eq!((ended, out.as_str()), (code, ""), "{arguments:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}

#[test]
fn a_caller_whose_stream_is_cut_is_reset_and_the_next_one_is_led() {
    needs_lab!();
    let seats = NativeSeats::start(SERVICES);
    let home = Home::start(&seats);
    {
        let agent = seats.agent();
        agent.until_up();
    }
    // The home is offline now.
    let mut forward = home.wayhome(&["forward", "home-ubuntu:web", "8080"]);
    forward.line();
    let reset = "
import socket, sys
s = socket.create_connection(('localhost', int(sys.argv[1])))
try: print('an end' if s.recv(1) == b'' else 'a byte')
except ConnectionResetError: print('a reset')
";
    assert_eq!(home.python(reset, "8080"), "a reset");
    assert_eventually!(
        home.said().contains("home-ubuntu is offline"),
        within = SOON,
        "{}",
        home.said()
    );
    let agent = seats.agent();
    agent.until_up();
    assert_eq!(home.python(PIPELINED, "8080"), "24576000");
    assert_eq!(forward.interrupt(), 0);
}
