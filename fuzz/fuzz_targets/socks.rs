//! SOCKS: whatever a caller says to `wayhome forward -D`, it is led to a home with a name that can be
//! written, or told why not; and never waited for when it has ended.

#![no_main]

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};
use wayhome::client::Goal;
use wayhome::forward::socks;
use wayhome_fuzz::Pieces;

thread_local! {
    static RUNTIME: LazyCell<Runtime> =
        LazyCell::new(|| Builder::new_current_thread().enable_time().build().unwrap());
}

fuzz_target!(|input: &[u8]| {
    let Some(pieces) = Pieces::of(input) else { return };
    let said = pieces.rest().len();
    let caller = tokio::io::join(pieces, Vec::new());
    let asked = RUNTIME.with(|runtime| runtime.block_on(socks::ask(caller)));
    let Ok(Ok(asked)) = asked else { return };
    // What leads somewhere has a greeting, a request and a name.
    assert!(said > 10, "{said} bytes");
    let shown = asked.goal.to_string();
    assert_eq!(shown.parse::<Goal>().as_ref(), Ok(&asked.goal), "{shown}");
});
