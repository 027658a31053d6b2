//! Commands that are ended before they have come to an end.

use std::fs;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use wayhome_lab::assert_eventually;

use super::sandbox::Sandbox;

#[test]
fn a_check_leaves_nothing_behind() {
    let sandbox = Sandbox::new();
    sandbox.key("key", "");
    // A gateway that takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let config = format!(
        "[[gateway]]\naddress = \"ssh://root@{address}\"\nidentity = \"key\"\n\
         [[service]]\ntarget = \"localhost:22\"\nport = 2222\n"
    );
    sandbox.write("agent.toml", &config);
    fs::create_dir(sandbox.path("tmp")).unwrap();
    let left = || fs::read_dir(sandbox.path("tmp")).unwrap().count();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let mut check = sandbox.wayhome(&["agent", "check", "--config", "agent.toml"]);
        check.env("TMPDIR", sandbox.path("tmp")).stderr(Stdio::null());
        let mut check = check.spawn().unwrap();
        assert_eventually!(left() == 1, within = Duration::from_secs(20));
        kill_process(Pid::from_child(&check), signal).unwrap();
        assert_eq!((check.wait().unwrap().code(), left()), (Some(code), 0), "{signal:?}");
    }
}
