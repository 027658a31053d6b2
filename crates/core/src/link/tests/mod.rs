//! The link, driven through virtual time: as scenarios that read like what happened, as properties
//! that hold whatever happens, and through days of faults.

mod anything;
mod check;
mod day;
mod ending;
mod exposed;
mod finding;
mod holding;
mod likeness;
mod losing;
mod machine;
mod ports;
mod proving;
mod replanning;
mod retrying;
mod world;
