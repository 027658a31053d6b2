//! Who listens on a port of this machine, for a message.

use crate::sockets;

/// What holds a port: a program, or whose it is.
pub fn of(port: u16) -> String {
    let listens = |socket: &sockets::Socket| socket.listens && socket.local.port() == port;
    let Some(socket) = sockets::all().into_iter().find(listens) else {
        return "a program there has it".into();
    };
    match sockets::owners().remove(&socket.inode).and_then(|all| all.into_iter().next()) {
        Some(process) => {
            format!("`{}` (process {}) has it", process.name.escape_debug(), process.pid)
        }
        None => format!("a program of the user {} has it", socket.user),
    }
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
