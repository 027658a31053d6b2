//! What a process uses, as the kernel counts it (proc(5)).

use std::fs;

use crate::Result;

/// Memory, in MB of 1024 × 1024 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// Resident.
    pub resident: f64,
    /// Of it, what no file stands behind.
    pub anonymous: f64,
    /// Its share of what it has in common with others, and all of its own.
    pub proportional: f64,
    /// What it has alone.
    pub private: f64,
}

/// CPU time, over all threads that live.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpu {
    /// In milliseconds, from the scheduler.
    pub ms: f64,
    /// In clock ticks, which are coarser, and count threads that have ended too.
    pub ticks: u64,
}

impl Memory {
    /// Of a process.
    pub fn of(pid: u32) -> Result<Memory> {
        let status = read(pid, "status")?;
        let rollup = read(pid, "smaps_rollup")?;
        Ok(Memory {
            resident: megabytes(&status, "VmRSS:")?,
            anonymous: megabytes(&status, "RssAnon:")?,
            proportional: megabytes(&rollup, "Pss:")?,
            private: megabytes(&rollup, "Private_Clean:")? + megabytes(&rollup, "Private_Dirty:")?,
        })
    }
}

impl Cpu {
    /// Of a process, since it began.
    pub fn of(pid: u32) -> Result<Cpu> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split(' ').next().unwrap_or_default();
            nanoseconds += first.trim().parse::<u64>()?;
        }
        Ok(Cpu { ms: nanoseconds as f64 / 1e6, ticks: ticks(&read(pid, "stat")?)? })
    }
}

/// What the whole kernel has in its small objects, sockets and files among them, in KB (proc_meminfo(5)).
pub fn kernel_slab() -> Result<f64> {
    Ok(megabytes(&fs::read_to_string("/proc/meminfo")?, "Slab:")? * 1024.0)
}

fn read(pid: u32, name: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{name}");
    fs::read_to_string(&path).map_err(|why| format!("could not read `{path}`: {why}").into())
}

fn megabytes(text: &str, key: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let number = number.ok_or_else(|| format!("no `{key}` in `{text}`"))?;
    Ok(number.parse::<f64>()? / 1024.0)
}

/// utime + stime, the fields 14 and 15 of `stat`; a name may hold blanks and parentheses.
fn ticks(stat: &str) -> Result<u64> {
    let (_, rest) = stat.rsplit_once(')').ok_or("`stat` has no name")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse::<u64>().ok());
    match (next(), next()) {
        (Some(user), Some(system)) => Ok(user + system),
        _ => Err(format!("`{stat}` has no times").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let text = "Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t 512 kB\n";
        assert_eq!(megabytes(text, "VmRSS:").unwrap(), 2.0);
        assert!(megabytes(text, "Pss:").is_err());
        let stat = "7 (a) (b c) S 1 7 7 0 -1 4194560 100 0 0 0 3 4 5 6 20 0 1 0 99";
        assert_eq!(ticks(stat).unwrap(), 7);
        assert!(Memory::of(std::process::id()).unwrap().resident > 0.1);
        assert!(Cpu::of(std::process::id()).unwrap().ms > 0.0);
    }
}
