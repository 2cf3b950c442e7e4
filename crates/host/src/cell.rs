//! The walls around the processes of a drill: an ordinary account, no network, no way to outlive us,
//! and a low priority. Built of the programs that systems have for it (`unshare`, `setpriv`, `nice`);
//! what a machine does not have is said.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use strongroom_core::engine::Account;

const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// A parent that died before the leash was on gives no signal any more. So whoever was just leashed
/// looks whether its parent, whose number comes first, is still there, before it becomes the program.
const IF_NOT_ORPHANED: [&str; 3] = ["sh", "-c", r#"[ "$PPID" = "$0" ] && exec "$@""#];

/// One way to run the processes of a drill.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Programs that each build one wall and become the next.
    prefix: Vec<OsString>,
    /// For [`Command`] itself, when no program of the prefix changes the account.
    account: Option<Account>,
    pub has_no_network: bool,
}

impl Cell {
    /// The strongest one that this machine allows. `death_signal` is what the process gets when we are
    /// gone: one on which it takes its children with it.
    pub fn strongest(account: Option<Account>, death_signal: &str) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let network: &[&str] = if is_root {
            &["unshare", "--net"]
        } else {
            &["unshare", "--user", "--map-current-user", "--net"]
        };
        let mut leash: Vec<String> =
            ["setpriv", "--pdeathsig", death_signal, "--no-new-privs"].map(str::to_owned).to_vec();
        if let Some(Account { uid, gid }) = account {
            leash.extend([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
        }
        leash.extend(IF_NOT_ORPHANED.map(str::to_owned));
        leash.push(std::process::id().to_string());
        let polite = ["nice", "-n", "10"];
        let words = |parts: [&[&str]; 2], leash: &[String]| -> Vec<OsString> {
            parts.concat().into_iter().map(OsString::from).chain(leash.iter().map(OsString::from)).collect()
        };
        let candidates = [
            Self { prefix: words([&polite, network], &leash), account: None, has_no_network: true },
            Self { prefix: words([&polite, &[]], &leash), account: None, has_no_network: false },
            Self { prefix: words([&polite, &[]], &[]), account, has_no_network: false },
        ];
        let works = |cell: &Self| {
            cell.command(Path::new("true")).output().is_ok_and(|output| output.status.success())
        };
        let plain = Self { prefix: Vec::new(), account, has_no_network: false };
        candidates.into_iter().find(works).unwrap_or(plain)
    }

    /// A command that runs the program inside. Nothing of our environment goes with it.
    pub fn command(&self, program: &Path) -> Command {
        let mut words = self.prefix.iter().map(OsString::as_os_str).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or(program.as_os_str()));
        command.args(words).env_clear().env("PATH", PATH).env("LC_ALL", "C").stdin(Stdio::null());
        if let Some(Account { uid, gid }) = self.account {
            // Dropping the user id also drops all groups.
            command.uid(uid).gid(gid);
        }
        command
    }

    /// What a person should know of a wall that is missing.
    pub fn note(&self) -> Option<String> {
        (!self.has_no_network).then(|| {
            "Note: this machine gives no network of its own to a process (`unshare --net`). The restored \
             server listened nowhere, but code in the restored data could have opened connections."
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v06_what_lost_its_parent_before_the_leash_was_on_does_not_begin() {
        let command = Cell::strongest(None, "QUIT").command(Path::new("echo"));
        let run = |mut through: Command| {
            through.arg(command.get_program()).args(command.get_args()).arg("begun");
            String::from_utf8(through.output().unwrap().stdout).unwrap()
        };
        assert_eq!(run(Command::new("env")), "begun\n", "env becomes the command: we are its parent");
        let mut between = Command::new("sh");
        between.args(["-c", r#""$@"; true"#, "sh"]);
        assert_eq!(run(between), "", "somebody else is its parent, as for an orphan");
    }

    #[test]
    fn h12_inside_there_is_no_network_and_no_secret() {
        let cell = Cell::strongest(None, "QUIT");
        let mut look = cell.command(Path::new("sh"));
        let output = look.args(["-c", "env; echo DEVICES; cat /proc/net/dev"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (environment, devices) = text.split_once("DEVICES").unwrap();
        assert!(environment.contains("PATH=") && !environment.contains("CARGO"), "{environment}");
        if cell.has_no_network {
            let devices: Vec<&str> = devices.lines().filter(|line| line.contains(':')).collect();
            assert!(devices.iter().all(|line| line.trim_start().starts_with("lo:")), "{devices:?}");
            assert!(cell.note().is_none());
        } else {
            assert!(cell.note().unwrap().contains("unshare"));
        }
    }
}
