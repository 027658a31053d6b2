//! Disks that fill, and are freed again.

use std::time::Instant;

use wayhome_lab::{Lab, assert_eventually, needs_systemd};

use crate::road::{Road, SOON};

#[test]
fn the_disk_fills() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let mut road = Road::open(&image, &lab);
    let before = road.arrive().unwrap();
    road.home.fill_disk().unwrap();
    assert!(road.home.sh("echo more > /var/lib/more").is_err(), "the disk is full");
    let began = Instant::now();
    road.home.sh(&format!("kill -KILL {}", before.agent)).unwrap();
    road.until("the agent was killed on a full disk", began, |now| now.agent != before.agent);
    let began = Instant::now();
    road.home.reboot().unwrap();
    road.until("home rebooted with a full disk", began, |now| now.boot != before.boot);
    road.home.free_disk().unwrap();
}

#[test]
fn the_file_system_of_the_control_sockets_fills() {
    let image = needs_systemd!();
    let lab = Lab::three_seats().unwrap();
    let road = Road::open(&image, &lab);
    let link = road.link();
    // The same as a full disk, for `/run` alone.
    let full = "set -- $(df --output=used,iused --block-size=1K /run | tail -n 1)
                mount -o remount,size=\"$1\"k,nr_inodes=\"$2\" /run";
    road.home.sh(full).unwrap();
    assert!(road.home.sh("echo more > /run/more").is_err(), "there is no room in `/run`");
    road.home.sh(&format!("kill -KILL {link}")).unwrap();
    assert_eventually!(road.cause() == Some("disk-full"), within = SOON, "{}", road.journal());
    assert!(road.arrive().is_err(), "the road is closed");
    let began = Instant::now();
    road.home.sh("mount -o remount,size=50%,nr_inodes=0 /run").unwrap();
    road.until("there was room in `/run` again", began, |_| road.link() != link);
}
