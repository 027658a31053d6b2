//! Ports that somebody holds: a program, another account, another tunnel of this home, a live session
//! behind which something else answers, another home; and our own old session, which is ended.

use wayhome_core::status::ServiceState;
use wayhome_lab::net::GATEWAY;
use wayhome_lab::{Sshd, assert_eventually, needs_lab};

use super::{Stage, until_service, versions};
use crate::seats::{Agent, Running, SOON};

#[test]
fn each_holder_of_a_port_has_its_name() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::with_homes(&openssh, 2);
        let (home, gateway) = (stage.seats.lab.home(), stage.seats.lab.gateway());
        let other_home = &stage.seats.household(1).home;
        let key = |machine: &wayhome_lab::Machine| {
            std::fs::read_to_string(machine.file("/tmp/key.pub")).unwrap()
        };
        let sshd = stage.sshd(|builder| {
            builder.authorize("root", &key(home)).authorize("root", &key(other_home))
        });
        other_home
            .sh(&format!(
                "echo '{}' > /var/lib/wayhome/known_hosts",
                sshd.known_hosts_line(GATEWAY)
            ))
            .unwrap();

        // 2301: a program. 2302: another account's sshd.
        let listen =
            "import socket,time; s=socket.create_server(('127.0.0.1',2301)); time.sleep(600)";
        let _program = Running(gateway.command("python3").args(["-c", listen]).spawn().unwrap());
        let bob = gateway.user("bob").unwrap();
        let _bobs = Sshd::builder(&openssh).port(2302).start(&bob).unwrap();
        // 2303: a tunnel that was made by hand. 2304: another one, to what greets and is no sshd.
        let greet = "import socket
s = socket.create_server(('127.0.0.1', 7002))
while True: c = s.accept()[0]; c.sendall(b'hello'); c.close()";
        let _greets = Running(home.command("python3").args(["-c", greet]).spawn().unwrap());
        let mut tunnel = home.command(openssh.ssh());
        tunnel.args(["-F", "none", "-N", "-i", "/tmp/key", "-l", "root"]);
        tunnel.args([
            "-o",
            "BatchMode=yes",
            "-o",
            "UserKnownHostsFile=/var/lib/wayhome/known_hosts",
        ]);
        tunnel.args(["-R", "127.0.0.1:2303:localhost:22", "-R", "127.0.0.1:2304:localhost:7002"]);
        tunnel.args(["-p", &sshd.port().to_string(), GATEWAY]);
        let _tunnel = Running(tunnel.spawn().unwrap());
        // 2305: another home.
        let address = format!("root@{GATEWAY}:{}", sshd.port());
        let by_url = format!("ssh://{address}");
        let other = [&by_url, "--name", "other", "-i", "/tmp/key", "-R", "2305:localhost:22"];
        let other = Agent::run(other_home, &other);
        other.until_service(0, ServiceState::Up);
        for port in 2301..=2305 {
            let held = || !stage.seats.holder(port).is_empty();
            assert_eventually!(held(), within = SOON, "{port}: {}", other.log());
        }

        let forwards: Vec<String> =
            (2301..=2306).map(|port| format!("{port}:localhost:22")).collect();
        let forwards: Vec<&str> = forwards.iter().flat_map(|forward| ["-R", forward]).collect();
        let agent = stage.agent_at(&address, &forwards);
        until_service(&agent, 0, "port-taken-by-program");
        until_service(&agent, 1, "port-taken-by-user");
        until_service(&agent, 2, "another-tunnel-of-this-home");
        until_service(&agent, 3, "another-live-session");
        until_service(&agent, 4, "another-home");
        assert_eq!(agent.service(4).state, ServiceState::Halted);
        agent.until_service(5, ServiceState::Up);
        assert!(other.is_up() && other.link().reconnects == 0, "{}", other.log());
    }
}

#[test]
fn a_key_that_may_not_look_and_a_port_that_is_held() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let key = format!("command=\"/bin/false\" {}", stage.key());
        let sshd = stage.sshd(|builder| builder.authorize("root", &key));
        let listen =
            "import socket,time; s=socket.create_server(('127.0.0.1',2222)); time.sleep(600)";
        let mut python = stage.seats.lab.gateway().command("python3");
        let _program = Running(python.args(["-c", listen]).spawn().unwrap());
        assert_eventually!(!stage.seats.holder(2222).is_empty(), within = SOON);
        until_service(&stage.agent(&sshd), 0, "forward-refused");
    }
}

#[test]
fn our_own_old_session_is_named_and_ended() {
    needs_lab!();
    for openssh in versions() {
        let stage = Stage::of(&openssh);
        let home = stage.seats.lab.home();
        let sshd = stage.open(|builder| builder);
        let mut agent = stage.agent(&sshd);
        agent.until_up();
        let holder = stage.seats.holder(2222);
        // Killed in a cut, its address gone: the gateway never hears of its end.
        stage.seats.lab.cut().unwrap();
        agent.kill_9();
        stage.seats.household(0).new_address("192.168.1.77").unwrap();
        stage.seats.lab.heal().unwrap();
        assert_eq!(stage.seats.holder(2222), holder, "it is still held");
        drop(agent);
        home.sh("rm /tmp/agent.log").unwrap();
        let agent = stage.agent(&sshd);
        agent.until_up();
        assert!(agent.log().contains("ended our old session"), "{}", agent.log());
    }
}
