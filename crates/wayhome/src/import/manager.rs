//! What is asked of systemd for a switch.

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::process::Command;
use wayhome_core::health::Detail;

use super::find::Manager;
use super::words;

/// The agent's service.
pub use crate::service::unit::NAME as SERVICE;

/// The service that does a switch, for as long as that takes.
pub const SWITCH: &str = "wayhome-take-over.service";

/// The longest that the way back may take: stopping one service and starting another, each of which
/// systemd gives 90 s.
const STOP: &str = "TimeoutStopSec=240";

/// Runs systemctl; what it says if it fails.
pub async fn systemctl(manager: Manager, arguments: &[&str]) -> Result<String, Detail> {
    let mut command = Command::new("systemctl");
    if manager == Manager::User {
        command.arg("--user");
    }
    command.args(arguments);
    let output = run(&mut command).await?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(said);
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(Detail::new(if error.trim().is_empty() { &said } else { &error }))
}

/// Whether a unit runs.
pub async fn is_active(manager: Manager, unit: &str) -> bool {
    systemctl(manager, &["is-active", "--quiet", "--", unit]).await.is_ok()
}

/// Starts the service that does the switch: not a child of ours, since the terminal may vanish with
/// the tunnel. Whatever becomes of it, `--settle` runs after it.
pub async fn start_switch(manager: Manager, program: &Path, record: &Path) -> Result<(), Detail> {
    let mut command = Command::new("systemd-run");
    if manager == Manager::User {
        command.arg("--user");
    }
    let settle = [program.as_os_str(), "import".as_ref(), "--settle".as_ref(), record.as_os_str()];
    let settle = settle.map(|word| words::quote(&word.to_string_lossy())).join(" ");
    command
        .args(["--quiet", "--collect", "--service-type=exec"])
        .arg(format!("--unit={SWITCH}"))
        .args(["-p", "KillMode=mixed", "-p", STOP, "-p"])
        .arg(format!("ExecStopPost={settle}"))
        .arg("--")
        .arg(program)
        .args(["import", "--switch"])
        .arg(record);
    let output = run(&mut command).await?;
    if output.status.success() {
        return Ok(());
    }
    Err(Detail::new(&String::from_utf8_lossy(&output.stderr)))
}

async fn run(command: &mut Command) -> Result<Output, Detail> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.output().await.map_err(|error| Detail::new(&format!("it cannot be run: {error}")))
}
