//! `wayhome open`

use std::ffi::OsString;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, timeout};

use crate::agent::proof::{HTTP_HELLO, TLS_HELLO};
use crate::client::{Goal, Laptop, Stream, Way};
use crate::command::agent::runtime;
use crate::command::signals::Signals;
use crate::error::{Failure, Outcome};
use crate::forward::local::Local;
use crate::forward::{Forward, To};
use crate::report;

/// How long a server may take to say what it speaks.
const PATIENCE: Duration = Duration::from_secs(5);

/// And how long for TLS, when it has answered in HTTP.
const GRACE: Duration = Duration::from_millis(300);

/// On the laptop: a home's web service in the browser, until ^C or TERM.
///
/// It is what `wayhome forward` does, and then opens the page. Where there is no browser it prints
/// the address only.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome open home-ubuntu:web
  wayhome open home-ubuntu:web 8080 --no-browser")]
pub struct Args {
    /// The home and its service
    #[arg(value_name = "HOME:SERVICE")]
    goal: Goal,
    /// The port for it here; a free one without it
    #[arg(value_name = "LOCAL", default_value = None)]
    local: Option<Local>,
    /// Print the address, and open nothing
    #[arg(long)]
    no_browser: bool,
    #[command(flatten)]
    way: Way,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome<u8> {
    let local = args.local.clone().unwrap_or(Local::Port(0));
    if let Local::Socket(path) = &local {
        return Err(Failure::usage("a browser opens no socket").hint(format!(
            "`wayhome forward {} {}` brings it to one",
            args.goal,
            path.display()
        )));
    }
    let laptop = Laptop::new(&args.way)?;
    laptop.wanted(&args.goal)?;
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let listeners = local.listen()?;
        let forward = Arc::new(Forward::new(laptop));
        let scheme = tokio::select! {
            scheme = scheme(&forward, &args.goal) => scheme?,
            _ = signals.next() => return Ok(0),
        };
        let at = listeners.first().and_then(|listener| listener.place().reached_at());
        let at = at.ok_or_else(|| Failure::new("the system does not say which port it gave"))?;
        let url = format!("{scheme}://{at}/");
        for listener in listeners {
            let to = To::Service(args.goal.clone());
            tokio::spawn(Arc::clone(&forward).keep(listener, to));
        }
        report::data("the address", format_args!("{url}\n"))?;
        if !args.no_browser {
            show(&url);
        }
        report::note("It leads there until ^C.");
        signals.next().await;
        Ok(0)
    })
}

/// `https` if it answers to TLS, and else `http`. What cannot be had is said before a browser shows
/// a page of its own about it.
///
/// Both are asked at once: a server of the one kind may wait for the end of what it does not
/// understand, and one of TLS may tell so in plain HTTP.
async fn scheme(forward: &Forward, goal: &Goal) -> Outcome<&'static str> {
    let mut https = pin!(speaks(forward, goal, TLS_HELLO, |first| matches!(first, 0x15 | 0x16)));
    let mut http = pin!(speaks(forward, goal, HTTP_HELLO, |first| first == b'H'));
    let is_https = tokio::select! {
        is_https = &mut https => is_https?,
        is_http = &mut http => match is_http? {
            true => timeout(GRACE, https).await.unwrap_or(Ok(false))?,
            false => https.await?,
        },
    };
    Ok(if is_https { "https" } else { "http" })
}

/// Whether a server's answer to this begins so.
async fn speaks(
    forward: &Forward,
    goal: &Goal,
    hello: &[u8],
    is_so: impl Fn(u8) -> bool,
) -> Outcome<bool> {
    let Stream { mut tls, .. } = forward.probe(goal).await?;
    let mut first = [0];
    let asked = async {
        tls.write_all(hello).await?;
        tls.flush().await?;
        tls.read(&mut first).await
    };
    let answered = timeout(PATIENCE, asked).await;
    let [first] = first;
    Ok(matches!(answered, Ok(Ok(1..))) && is_so(first))
}

/// Opens the page, where there is a browser.
fn show(url: &str) {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let has_screen =
        cfg!(target_os = "macos") || set("DISPLAY").or(set("WAYLAND_DISPLAY")).is_some();
    let opener: OsString = match set("BROWSER") {
        Some(browser) => browser,
        None if !has_screen => return,
        None if cfg!(target_os = "macos") => "open".into(),
        None => "xdg-open".into(),
    };
    // Not a shell's: what stands in the variable is a program's name, and the address is ours.
    let started = Command::new(&opener)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        // It is cleared away when this program ends, which is soon enough.
        Ok(_) => tracing::debug!("`{}` was started", opener.display()),
        Err(why) => report::warning(format_args!(
            "the browser `{}` cannot be started: {why}; open the address yourself",
            opener.display()
        )),
    }
}
