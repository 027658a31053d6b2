//! Commands of units, as systemd would start them.

use super::*;

fn at() -> Specifiers {
    Specifiers {
        unit: "tunnel@gw.service".into(),
        user: "fan".into(),
        uid: 1000,
        home: "/home/fan".into(),
        host: "home".into(),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    match path.to_str() {
        Some("/etc/default/gw") => Ok("# where\nPORT=2222\nTARGET='root@203.0.113.10'\n".into()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    }
}

fn run(service: &str) -> Result<Started, UnitError> {
    started(&Unit::parse(&format!("[Service]\n{service}\n")), &at(), &read)
}

fn words(exec: &str) -> Vec<String> {
    run(&format!("Environment=\"A=1 2\" B=x\nExecStart={exec}")).unwrap().words
}

#[test]
fn quotes_specifiers_and_variables() {
    for (exec, expected) in [
        ("/usr/bin/ssh -N gw", &["/usr/bin/ssh", "-N", "gw"][..]),
        ("/bin/ssh -o \"A=b c\" %i", &["/bin/ssh", "-o", "A=b c", "gw"]),
        ("/bin/ssh -i %h/.ssh/k", &["/bin/ssh", "-i", "/home/fan/.ssh/k"]),
        ("/bin/ssh $A ${A} x$A", &["/bin/ssh", "1", "2", "1 2", "x$A"]),
        ("/bin/ssh $$A 100%% ${B}y", &["/bin/ssh", "$A", "100%", "xy"]),
        (":/bin/ssh $A", &["/bin/ssh", "$A"]),
        ("-/bin/ssh a", &["/bin/ssh", "a"]),
        ("@/bin/ssh tunnel a", &["/bin/ssh", "a"]),
        ("-@/bin/ssh tunnel \\; a", &["/bin/ssh", ";", "a"]),
    ] {
        assert_eq!(words(exec), expected, "{exec}");
    }
}

#[test]
fn a_prefix_may_leave_the_user_out() {
    let user =
        |prefix: &str| run(&format!("User=fan\nExecStart={prefix}/bin/ssh gw")).unwrap().user;
    assert_eq!(user("").as_deref(), Some("fan"));
    assert_eq!(user("-").as_deref(), Some("fan"));
    assert_eq!(user("!!").as_deref(), Some("fan"));
    assert_eq!(user("+"), None);
    assert_eq!(user("!"), None);
}

#[test]
fn files_bring_variables() {
    let unit =
        "EnvironmentFile=/etc/default/%i\nExecStart=/bin/ssh -R ${PORT}:localhost:22 $TARGET";
    assert_eq!(
        run(unit).unwrap().words,
        ["/bin/ssh", "-R", "2222:localhost:22", "root@203.0.113.10"]
    );
    let missing = "EnvironmentFile=-/nowhere\nExecStart=/bin/ssh gw";
    assert_eq!(run(missing).unwrap().words, ["/bin/ssh", "gw"]);
    let missing = run("EnvironmentFile=/nowhere\nExecStart=/bin/ssh gw").unwrap_err();
    assert!(matches!(missing, UnitError::EnvironmentFile(..)));
}

#[test]
fn says_what_cannot_be_read() {
    assert_eq!(run("Type=simple"), Err(UnitError::NoCommand));
    assert_eq!(run("ExecStart=/bin/a ; /bin/b"), Err(UnitError::SeveralCommands(2)));
    assert_eq!(run("ExecStart=/bin/ssh $X"), Err(UnitError::Unset("X".into())));
    assert_eq!(run("ExecStart=|ssh gw"), Err(UnitError::Prefix('|')));
    assert_eq!(run("ExecStart=/bin/ssh %Q"), Err(UnitError::Specifier(UnknownSpecifier('Q'))));
    assert!(matches!(run("ExecStart=/bin/ssh 'a"), Err(UnitError::Words("ExecStart", _))));
}

#[test]
fn names_what_the_unit_does_besides() {
    let unit = Unit::parse(
        "[Unit]\nAfter=network-online.target wg-quick@wg0.service\n[Service]\n\
         ExecStartPre=/bin/sleep 5\nExecStart=/bin/ssh gw\n",
    );
    let aside = started(&unit, &at(), &read).unwrap().aside;
    let named: Vec<&str> = aside.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(named, ["ExecStartPre=/bin/sleep 5", "After=wg-quick@wg0.service"]);
}
