//! Who listens on a port of this machine, for a message: what proc(5) tells.

use std::fs;
use std::path::Path;

/// What holds a port: a program, or whose it is.
pub fn of(port: u16) -> String {
    let Some((inode, user)) = listener(port) else { return "a program there has it".into() };
    match program(&inode) {
        Some((pid, name)) => format!("`{name}` (process {pid}) has it"),
        None => format!("a program of the user {user} has it"),
    }
}

/// The listener's inode, and its user's number.
fn listener(port: u16) -> Option<(String, String)> {
    let hex = format!("{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        fs::read_to_string(table).ok()?.lines().skip(1).find_map(|line| {
            let mut fields = line.split_whitespace();
            let local = fields.nth(1)?;
            let state = fields.nth(1)?;
            let user = fields.nth(3)?;
            let inode = fields.nth(1)?;
            // 0A: TCP_LISTEN.
            let is_it = state == "0A" && local.rsplit(':').next() == Some(&hex);
            is_it.then(|| (inode.to_owned(), user.to_owned()))
        })
    })
}

/// The process that has this socket open, if its descriptors may be read, and its name.
fn program(inode: &str) -> Option<(u32, String)> {
    let link = format!("socket:[{inode}]");
    let has_it = |process: &Path| {
        let open = fs::read_dir(process.join("fd")).ok()?;
        open.flatten().find(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(&link)))
    };
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        has_it(&entry.path())?;
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        Some((pid, name.trim_end().escape_debug().to_string()))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_program_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let said = super::of(port);
        assert!(said.contains(&format!("(process {})", std::process::id())), "{said}");
        drop(listener);
        assert_eq!(super::of(port), "a program there has it");
    }
}
