//! Files of grants that change while they are followed.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tokio::time::timeout;

use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

fn granted() -> String {
    format!("[[grant]]\nkey = \"{KEY}\"\n")
}

/// What stands once it is so.
async fn until(standing: &mut Receiver<Arc<Standing>>, is: impl Fn(&Standing) -> bool) {
    let wait = standing.wait_for(|standing| is(standing));
    timeout(Duration::from_secs(5), wait).await.expect("in time").unwrap();
}

#[tokio::test]
async fn follows_its_file_and_keeps_what_stood_while_it_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grants.toml");
    fs::write(&path, granted()).unwrap();
    let followed = Followed::open(&path, Seat::Home).unwrap();
    let mut standing = followed.standing();
    let count = |standing: &Standing| standing.grants.iter().count();
    let steps = async {
        until(&mut standing, |now| count(now) == 1).await;
        fs::write(&path, "[[grant").unwrap();
        until(&mut standing, |now| now.trouble.is_some() && count(now) == 1).await;
        fs::write(&path, granted() + "[[grant]]\nkey = 5\n").unwrap();
        until(&mut standing, |now| now.trouble.is_none() && now.passed_over.len() == 1).await;
        fs::remove_file(&path).unwrap();
        until(&mut standing, |now| now.trouble.is_some() && count(now) == 1).await;
        fs::write(folder.path().join("new"), "").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        until(&mut standing, |now| now.trouble.is_none() && count(now) == 0).await;
    };
    tokio::select! {
        () = steps => {}
        () = followed.follow() => {}
    }
}

#[test]
fn a_file_that_others_can_write_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grants.toml");
    fs::write(&path, granted()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    let why = read(&path, Seat::Home).unwrap_err();
    assert!(why.message().contains("can be written by others (mode 0664)"), "{why}");
    let why = read(folder.path(), Seat::Home).unwrap_err();
    assert!(why.message().contains("are not a file"), "{why}");
}
