//! Greeting and authentication.
//!
//! Rules that hold whatever the server asks for: a password leaves in plain text only inside TLS or
//! over a socket file of this machine, once, and only for caching_sha2_password; nothing is ever read
//! from this machine's files; who is no MySQL that can be backed up gets no password at all.

use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use strongroom_core::engine::{Source, TlsMode};
use strongroom_core::foreign_text::for_people;
use strongroom_core::{Error, ErrorKind};
use strongroom_wire::Watch;

use super::Connection;
use crate::fault::{Fault, Foreign, Result, ServerError};
use crate::remedy::Account;
use crate::server::Version;

/// The one way to log in that is spoken here; the server's default since 8.0.
const METHOD: &[u8] = b"caching_sha2_password";
const SALT_BYTES: usize = 20;
/// utf8mb4, in a collation that every server of the protocol knows.
const CHARSET: u8 = 45;
/// The packets of one login; the longest takes four.
const STEPS_MAX: usize = 8;

/// Capability flags of the protocol.
mod capability {
    /// Every MySQL sets it. MariaDB has given the bit another meaning and leaves it out.
    pub(super) const LONG_PASSWORD: u32 = 1;
    pub(super) const PROTOCOL_41: u32 = 1 << 9;
    pub(super) const TLS: u32 = 1 << 11;
    pub(super) const TRANSACTIONS: u32 = 1 << 13;
    pub(super) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(super) const METHODS: u32 = 1 << 19;
    pub(super) const LONG_ANSWERS: u32 = 1 << 21;
    pub(super) const NO_EOF: u32 = 1 << 24;
    /// What is offered, and asked of the server. LOCAL INFILE (bit 7), several statements in one and
    /// compression are never offered.
    pub(super) const OURS: u32 =
        LONG_PASSWORD | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | METHODS | LONG_ANSWERS | NO_EOF;
}

/// What a server says before anything is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: Version,
    /// As the server prints it.
    pub(crate) version_text: String,
    capabilities: u32,
    salt: [u8; SALT_BYTES],
}

impl Greeting {
    pub(crate) fn parse(body: &[u8]) -> Result<Self> {
        let malformed = || Fault::hostile("a malformed greeting");
        let (protocol, rest) = body.split_first().ok_or_else(malformed)?;
        match protocol {
            10 => {}
            0xff => return Err(Fault::Server(Box::new(ServerError::decode(body)))),
            other => return Err(Fault::hostile(format!("a greeting of protocol {other}"))),
        }
        let end = rest.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
        let (version_text, rest) = (for_people(&rest[..end]), &rest[end + 1..]);
        // Thread id, salt, 0, flags, charset, status, flags, length of the salt, reserved, salt.
        let (first_salt, rest) =
            rest.get(4..).and_then(|rest| rest.split_at_checked(8)).ok_or_else(malformed)?;
        let [0, low, high, _charset, _, _, upper_low, upper_high, _length, rest @ ..] = rest else {
            return Err(malformed());
        };
        let capabilities = u32::from_le_bytes([*low, *high, *upper_low, *upper_high]);
        let foreign = if capabilities & capability::LONG_PASSWORD == 0
            || version_text.to_ascii_lowercase().contains("mariadb")
        {
            Some(Foreign::MariaDb { version: version_text.clone() })
        } else {
            None
        };
        if let Some(foreign) = foreign {
            return Err(Fault::Foreign(foreign));
        }
        let version = Version::parse(&version_text).ok_or_else(malformed)?;
        if !version.is_supported() {
            return Err(Fault::Foreign(Foreign::TooOld { version: version_text }));
        }
        if capabilities & capability::OURS != capability::OURS {
            return Err(Fault::hostile("a greeting of such a version that lacks what all of them have"));
        }
        let second_salt = rest.get(10..10 + SALT_BYTES - 8).ok_or_else(malformed)?;
        let mut salt = [0; SALT_BYTES];
        salt[..8].copy_from_slice(first_salt);
        salt[8..].copy_from_slice(second_salt);
        Ok(Self { version, version_text, capabilities, salt })
    }
}

/// Reads the greeting, encrypts when the source asks for it, and logs in.
pub(super) fn log_in(connection: &mut Connection, source: &Source, watch: &Watch<'_>) -> Result<Greeting> {
    let greeting = Greeting::parse(connection.receive(watch)?)?;
    if [source.user.as_bytes(), source.password.expose_secret().as_bytes()]
        .iter()
        .any(|text| text.contains(&0))
    {
        return Err(
            refused("The user name or the password holds a NUL character, which MySQL cannot take.").into()
        );
    }
    let mut flags = capability::OURS;
    if source.tls != TlsMode::Disable {
        if greeting.capabilities & capability::TLS == 0 {
            return Err(refused("The source does not offer TLS, and the instance asks for it. No password was sent.")
                .with_hint("Give the server a certificate (ssl_cert, ssl_key), or register the instance with tls disable.")
                .into());
        }
        flags |= capability::TLS;
        connection.reply(&opening(flags), watch)?;
        connection.encrypt(source, watch)?;
    }
    let password = source.password.expose_secret().as_bytes();
    let mut answer = opening(flags);
    answer.extend_from_slice(source.user.as_bytes());
    answer.push(0);
    let proof = scramble(password, &greeting.salt);
    answer.push(u8::try_from(proof.len()).map_err(Error::internal)?);
    answer.extend_from_slice(&proof);
    answer.extend_from_slice(METHOD);
    answer.push(0);
    connection.reply(&answer, watch)?;
    authenticate(connection, source, watch)?;
    Ok(greeting)
}

/// Flags, the largest packet, the character set, and room.
fn opening(flags: u32) -> Vec<u8> {
    let mut bytes = flags.to_le_bytes().to_vec();
    bytes.extend_from_slice(&(16_u32 << 20).to_le_bytes());
    bytes.push(CHARSET);
    bytes.resize(32, 0);
    bytes
}

/// What the server asks for next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Done,
    /// Our proof was known; the end of the login follows.
    Known,
    /// The server does not remember the password and wants to see it.
    Whole,
    /// Our proof with another salt.
    Again([u8; SALT_BYTES]),
}

fn step(body: &[u8], user: &str) -> Result<Step> {
    match body {
        [0, ..] => Ok(Step::Done),
        [0xff, ..] => Err(Fault::Server(Box::new(ServerError::decode(body)))),
        [1, 3] => Ok(Step::Known),
        [1, 4] => Ok(Step::Whole),
        [0xfe, rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            let (method, salt) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
            if method != METHOD {
                return Err(other_method(method, user).into());
            }
            match salt.first_chunk() {
                Some(salt) => Ok(Step::Again(*salt)),
                None => Err(Fault::hostile("a login without a salt")),
            }
        }
        [2, ..] => Err(refused("The account has a second factor; a program cannot log in with it.")
            .with_hint("Make an account for backups with a password alone.")
            .into()),
        _ => Err(Fault::hostile("a step of a login that is none")),
    }
}

fn authenticate(connection: &mut Connection, source: &Source, watch: &Watch<'_>) -> Result<()> {
    let password = source.password.expose_secret().as_bytes();
    let (mut was_shown, mut was_repeated) = (false, false);
    for _ in 0..STEPS_MAX {
        match step(connection.receive(watch)?, &source.user)? {
            Step::Done => return Ok(()),
            Step::Known => {}
            Step::Whole if was_shown => break,
            Step::Whole => {
                if !connection.is_protected() {
                    return Err(refused(
                        "The source asks for the password in plain text over a connection without TLS. It was not sent.",
                    )
                    .with_hint("Register the instance with tls require or verify-full.")
                    .into());
                }
                was_shown = true;
                connection.reply(&[password, &[0]].concat(), watch)?;
            }
            Step::Again(_) if was_repeated => break,
            Step::Again(salt) => {
                was_repeated = true;
                connection.reply(&scramble(password, &salt), watch)?;
            }
        }
    }
    Err(Fault::hostile("a login without an end"))
}

/// What proves the password to a server that remembers a digest of it. Without a password: nothing.
fn scramble(password: &[u8], salt: &[u8; SALT_BYTES]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha256::digest(password);
    let twice = Sha256::digest(once);
    let salted = Sha256::new().chain_update(twice).chain_update(salt).finalize();
    once.iter().zip(salted.iter()).map(|(a, b)| a ^ b).collect()
}

fn other_method(method: &[u8], user: &str) -> Error {
    let (method, account) = (for_people(method), Account::new(user, "%"));
    refused(format!(
        "The source asks for the login method {method}, which is not offered here. No password was sent."
    ))
    .with_hint(format!(
        "On the source: {} A server that has no such account may ask the same: {}",
        account.alter("IDENTIFIED WITH caching_sha2_password BY '...'"),
        account.create()
    ))
}

fn refused(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::SourceRefused, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER_SALT: &[u8] = b"\0caching_sha2_password\0";

    fn greeting(version: &str, capabilities: u32) -> Vec<u8> {
        let flags = capabilities.to_le_bytes();
        let mut bytes = [&[10], version.as_bytes(), &[0, 1, 0, 0, 0], b"12345678", &[0]].concat();
        bytes.extend_from_slice(&[flags[0], flags[1], 255, 2, 0, flags[2], flags[3], 21]);
        bytes.extend_from_slice(&[0; 10]);
        bytes.extend_from_slice(b"abcdefghijkl");
        bytes.extend_from_slice(AFTER_SALT);
        bytes
    }

    #[test]
    fn h06_a_greeting_is_read_or_refused() {
        let good = greeting("9.7.4", 0xffff_ffff);
        let read = Greeting::parse(&good).unwrap();
        assert_eq!((&read.salt, read.version_text.as_str()), (b"12345678abcdefghijkl", "9.7.4"));
        for length in 0..good.len() - AFTER_SALT.len() {
            assert!(Greeting::parse(&good[..length]).is_err(), "{length}");
        }
        assert!(matches!(
            Greeting::parse(&greeting("11.8.3-MariaDB-deb12", 0xffff_fffe)),
            Err(Fault::Foreign(Foreign::MariaDb { .. }))
        ));
        assert!(matches!(
            Greeting::parse(&greeting("10.0.0-mine", 0xffff_fffe)),
            Err(Fault::Foreign(Foreign::MariaDb { .. }))
        ));
        assert!(matches!(
            Greeting::parse(&greeting("5.7.44-log", 0x80ff_ffff)),
            Err(Fault::Foreign(Foreign::TooOld { .. }))
        ));
        assert!(Greeting::parse(&greeting("9.7.4", 1)).is_err());
    }

    #[test]
    fn h06_only_one_method_is_spoken() {
        assert_eq!(step(&[1, 4], "x").unwrap(), Step::Whole);
        let salt = [&[0xfe], METHOD, &[0], &[7; SALT_BYTES], &[0]].concat();
        assert_eq!(step(&salt, "x").unwrap(), Step::Again([7; SALT_BYTES]));
        for method in ["mysql_clear_password", "mysql_native_password", "sha256_password"] {
            let asked = [&[0xfe], method.as_bytes(), &[0], &[7; SALT_BYTES]].concat();
            let Err(Fault::Domain(error)) = step(&asked, "o'k") else { panic!("{method} was taken") };
            assert_eq!(error.kind(), ErrorKind::SourceRefused);
            assert!(error.hint().unwrap().contains("ALTER USER 'o''k'@'%' IDENTIFIED WITH caching_sha2"));
        }
        for bad in [&[0xfe][..], &[], &[1], &[1, 9], &[7, 7]] {
            assert!(step(bad, "x").is_err());
        }
    }

    /// Worked out by hand from the definition: SHA256(p) ^ SHA256(SHA256(SHA256(p)) + salt).
    #[test]
    fn a_proof_hides_the_password_and_depends_on_the_salt() {
        let proof = scramble(b"secret", &[1; SALT_BYTES]);
        assert_eq!(proof.len(), 32);
        assert_ne!(proof, scramble(b"secret", &[2; SALT_BYTES]));
        assert!(scramble(b"", &[1; SALT_BYTES]).is_empty());
    }
}
