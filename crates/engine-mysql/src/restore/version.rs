//! Which server may start on the files of which other one.
//!
//! A clone is the files of a crashed server, and only a server of the same series repairs them. Within
//! a series the server's makers promise it for those of long support; of 8.0 only from 8.0.37 on.

use crate::server::Version;

/// Series that are maintained for years, in which every release takes the files of every other.
const LONG_SUPPORT: [(u32, u32); 2] = [(8, 4), (9, 7)];
/// From here on the releases of 8.0 clone from one another.
const FRIENDLY_PATCH_OF_8_0: u32 = 37;

impl Version {
    /// From what `mysqld --version` says; `None` for what is no MySQL.
    pub(super) fn of_program(said: &str) -> Option<Self> {
        if said.to_ascii_lowercase().contains("mariadb") {
            return None;
        }
        Self::parse(said.split_once(" Ver ")?.1.trim_start())
    }

    fn series(self) -> (u32, u32) {
        (self.major, self.minor)
    }

    fn has_long_support(self) -> bool {
        LONG_SUPPORT.contains(&self.series())
    }

    /// Whether a server of this release starts on the files of a server of that one.
    pub(super) fn can_start(self, source: Self) -> bool {
        if self.series() != source.series() {
            return false;
        }
        if self.series() == (8, 0) {
            let is_friendly = |release: Self| release.patch >= FRIENDLY_PATCH_OF_8_0;
            return self == source || is_friendly(self) && is_friendly(source);
        }
        self.has_long_support() || self >= source
    }

    /// The servers that can start on the files of this one, in words.
    pub(super) fn wanted(self) -> String {
        let (text, Self { major, minor, patch }) = (self.text(), self);
        match (major, minor) {
            (8, 0) if patch >= FRIENDLY_PATCH_OF_8_0 => {
                format!("MySQL 8.0.{FRIENDLY_PATCH_OF_8_0} or a later one of 8.0")
            }
            (8, 0) => format!("exactly MySQL {text}"),
            _ if self.has_long_support() => format!("a MySQL of the series {major}.{minor}"),
            _ => format!("MySQL {text} or a later one of {major}.{minor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn versions_are_read_as_programs_print_them() {
        let said = "/usr/sbin/mysqld  Ver 9.7.4 for Linux on x86_64 ((Debian))";
        assert_eq!(Version::of_program(said), Some(release("9.7.4")));
        let maria = "mysqld  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64";
        for text in ["", "x", "8", "8.0", "8.0.x", maria] {
            assert!(
                Version::of_program(text).is_none() && Version::of_program(&format!(" Ver {text}")).is_none()
            );
        }
    }

    #[test]
    fn v01_only_servers_that_can_start_a_copy_do() {
        for (server, source, can) in [
            ("9.7.4", "9.7.4", true),
            ("9.7.0", "9.7.4", true),
            ("9.7.5", "9.7.4", true),
            ("9.7.4", "9.6.0", false),
            ("9.7.4", "8.4.4", false),
            ("8.4.4", "8.4.0", true),
            ("8.4.0", "8.4.4", true),
            ("8.4.0", "8.0.40", false),
            ("8.0.37", "8.0.42", true),
            ("8.0.42", "8.0.37", true),
            ("8.0.36", "8.0.36", true),
            ("8.0.37", "8.0.36", false),
            ("8.0.36", "8.0.37", false),
            ("9.0.1", "9.0.0", true),
            ("9.0.0", "9.0.1", false),
        ] {
            assert_eq!(release(server).can_start(release(source)), can, "{server} on the files of {source}");
        }
        assert_eq!(release("8.0.30").wanted(), "exactly MySQL 8.0.30");
        assert_eq!(release("8.0.41").wanted(), "MySQL 8.0.37 or a later one of 8.0");
        assert_eq!(release("8.4.3").wanted(), "a MySQL of the series 8.4");
        assert_eq!(release("9.1.0").wanted(), "MySQL 9.1.0 or a later one of 9.1");
    }
}
