//! Computers with a real systemd: a Debian of its own, booted by `systemd-nspawn` in a
//! [`Machine`](crate::Machine) of the lab, whose network it takes.
//!
//! What depends on the service manager can be tried only with one: units, watchdogs, boots, reboots.
//! A [`Machine`](crate::Machine) shares the real machine's programs and has no init; all else is
//! quicker there.
//!
//! ```no_run
//! # fn main() -> wayhome_lab::Result<()> {
//! use wayhome_lab::Lab;
//! use wayhome_lab::systemd::{Booted, Image};
//!
//! let image = Image::find()?; // in a test: `let image = needs_systemd!();`
//! let lab = Lab::three_seats()?;
//! let mut home = Booted::start(&image, lab.home())?;
//! home.sh("useradd --create-home fan && systemctl start ssh")?;
//! home.reboot()?; // the disk and the network stay; all else is new
//! assert_eq!(home.sh("systemctl is-active ssh")?, "active\n");
//! home.pull_the_plug(); // no process gets to say goodbye
//! home.switch_on()
//! # }
//! ```
//!
//! [`image`] makes the disk that all of them begin with, from the [`mirror`] that this machine has its
//! packages from; [`booted`] boots it, in a [`cgroup`] that ends with the test.

pub mod booted;
pub mod cgroup;
pub mod image;
pub mod mirror;

pub use booted::Booted;
pub use image::Image;

/// Begins a test that needs a real systemd, and gives it the [`Image`]: without one the test ends
/// here and says why, or fails if the environment has `WAYHOME_LAB=required`.
#[macro_export]
macro_rules! needs_systemd {
    () => {
        match $crate::systemd::Image::find() {
            Ok(image) => image,
            Err(why) => {
                let required =
                    ::std::env::var_os("WAYHOME_LAB").is_some_and(|lab| lab == "required");
                assert!(!required, "no systemd: {why}");
                eprintln!("skipped: {why}");
                return;
            }
        }
    };
}
