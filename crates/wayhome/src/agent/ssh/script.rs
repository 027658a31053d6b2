//! What runs at a gateway for an ssh link: the hold, as the agent sends it, and the gate, the same
//! hold behind a forced command. Their protocol is described at the head of `hold.sh`.
//!
//! Speaking to them is the link's business; this module only makes their text.

/// The line that ends the script which the agent writes to the hold's standard input.
pub const END: &str = "#end";

/// The hold's script. The agent writes it, then [`END`] and a newline, to the session that
/// [`command`] opened. What the account's start files print may come before the greeting.
pub const HOLD: &str = include_str!("hold.sh");

/// What stands before [`HOLD`] in an installed `wayhome-gate`.
const GATE_HEAD: &str = include_str!("gate.sh");

/// Reads the script up to [`END`], then becomes it; the words after it are the mark by which other
/// sessions find this one, and are its arguments.
///
/// The outer quotes must mean the same to every login shell: no `'`, `!`, backslash or newline may
/// stand between them. `read` takes no byte beyond the line, so that the requests which follow
/// reach the script.
const LOADER: &str = concat!(
    r##"exec sh -c 'eval "$(while IFS= read -r l; do case $l in "#end") break;; esac; "##,
    r##"printf %s "$l"; echo; done)"' wayhome-hold"##
);

/// The command of the session that the agent opens for its hold.
pub fn command(ports: &[u16]) -> String {
    ports.iter().fold(LOADER.to_owned(), |command, port| format!("{command} {port}"))
}

/// The whole `wayhome-gate`, as it is installed at a gateway.
pub fn gate() -> String {
    format!("{GATE_HEAD}{HOLD}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_ends_in_the_mark_and_its_ports() {
        assert!(command(&[2222, 2223]).ends_with("' wayhome-hold 2222 2223"));
        assert!(command(&[2222]).contains(END));
    }

    #[test]
    fn login_shells_read_the_loader_alike() {
        let quoted: Vec<&str> = LOADER.split('\'').collect();
        assert_eq!(quoted.len(), 3, "one pair of quotes");
        assert!(!LOADER.contains(['!', '\\', '\n', '`']));
    }

    #[test]
    fn no_line_of_the_script_ends_it_early() {
        assert!(HOLD.ends_with('\n'));
        assert!(HOLD.lines().all(|line| line != END));
    }

    /// A script that was cut short on its way must do nothing: only its last line begins.
    #[test]
    fn only_the_last_line_of_the_script_acts() {
        assert_eq!(HOLD.lines().last(), Some("serve \"$@\""));
        let calls = HOLD.lines().filter(|line| line.starts_with("serve ")).count();
        assert_eq!(calls, 1);
    }

    #[test]
    fn the_gate_is_a_script_with_the_same_hold() {
        assert!(gate().starts_with("#!/bin/sh\n"));
        assert!(gate().ends_with(HOLD));
        let skipped: usize = HOLD.lines().count();
        assert!(skipped < 4000, "the gate skips no more lines than that");
    }
}
