//! Commands that the proxy answers by itself: about the connection, and about the proxy.

use crate::door::Shared;
use crate::resp::requests::Command;
use crate::resp::{Version, write};
use crate::ring::{printable, wrong_arguments};
use bytes::Bytes;

/// Longest name that a client may give its connection, bytes.
const NAME_BYTES_MAX: usize = 256;

/// What a connection has agreed on.
#[derive(Debug)]
pub struct State {
    /// Its number.
    pub id: u64,
    /// What answers look like.
    pub version: Version,
    name: Bytes,
    /// The client said `QUIT`: it gets what it has asked for, and the connection ends.
    pub quitting: bool,
}

impl State {
    /// Of connection number `id`.
    pub fn new(id: u64) -> State {
        State { id, version: Version::Two, name: Bytes::new(), quitting: false }
    }

    /// The answer to a command about the connection or the proxy; `None` when it is about keys.
    pub fn answer(&mut self, command: &Command<'_>, shared: &Shared) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let answered = match known(command.name())? {
            Known::Ping => self.ping(command, &mut out),
            Known::Echo => echo(command, &mut out),
            Known::Hello => self.hello(command, &mut out),
            Known::Select => select(command, &mut out),
            Known::Client => self.client(command, &mut out),
            Known::Command => about_commands(command, self.version, &mut out),
            Known::Info => {
                write::text(&mut out, self.version, &shared.info());
                Ok(())
            }
            Known::Config => self.config(command, &mut out),
            Known::Quit => {
                self.quitting = true;
                ok(&mut out)
            }
            Known::Reset => {
                (self.version, self.name) = (Version::Two, Bytes::new());
                write::simple(&mut out, "RESET");
                Ok(())
            }
        };
        Some(match answered {
            Ok(()) => out,
            Err(text) => write::error_reply(&text),
        })
    }

    fn ping(&self, command: &Command<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        match command.args() {
            [_] => write::simple(out, "PONG"),
            [_, text] => write::bulk(out, text),
            _ => return Err(wrong_arguments(command.name())),
        }
        Ok(())
    }

    fn hello(&mut self, command: &Command<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let (mut version, mut name, mut rest) = (self.version, None, command.args().get(1..).unwrap_or_default());
        if let [wanted, more @ ..] = rest {
            version = match *wanted {
                b"2" => Version::Two,
                b"3" => Version::Three,
                _ => return Err("NOPROTO unsupported protocol version".into()),
            };
            rest = more;
        }
        while let [option, value, more @ ..] = rest {
            if !option.eq_ignore_ascii_case(b"SETNAME") {
                break;
            }
            name = Some(checked_name(value)?);
            rest = more;
        }
        if let [option, ..] = rest {
            return Err(format!("ERR HELLO: the option '{}' is not possible here", printable(option)));
        }
        self.version = version;
        name.into_iter().for_each(|name| self.name = name);
        write::map(out, version, 7);
        for (key, value) in [("server", "kvproxy"), ("version", env!("CARGO_PKG_VERSION"))] {
            write::bulk(out, key.as_bytes());
            write::bulk(out, value.as_bytes());
        }
        write::bulk(out, b"proto");
        write::integer(out, if version == Version::Three { 3 } else { 2 });
        write::bulk(out, b"id");
        write::integer(out, i64::try_from(self.id).unwrap_or(i64::MAX));
        for (key, value) in [("mode", "proxy"), ("role", "master")] {
            write::bulk(out, key.as_bytes());
            write::bulk(out, value.as_bytes());
        }
        write::bulk(out, b"modules");
        write::array(out, 0);
        Ok(())
    }

    fn client(&mut self, command: &Command<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let [_, what, rest @ ..] = command.args() else { return Err(wrong_arguments(command.name())) };
        match (what.to_ascii_uppercase().as_slice(), rest) {
            (b"ID", []) => write::integer(out, i64::try_from(self.id).unwrap_or(i64::MAX)),
            (b"GETNAME", []) if self.name.is_empty() => write::null(out, self.version),
            (b"GETNAME", []) => write::bulk(out, &self.name),
            (b"SETNAME", [name]) => {
                self.name = checked_name(name)?;
                write::simple(out, "OK");
            }
            // What a library says of itself: nobody here asks for it.
            (b"SETINFO", [_, _]) => write::simple(out, "OK"),
            _ => return Err(format!("ERR unknown subcommand '{}' of CLIENT", printable(what))),
        }
        Ok(())
    }

    /// Of Redis's settings, what tools ask for and the proxy can truly say.
    fn config(&self, command: &Command<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let wanted = match command.args() {
            [_, get, wanted @ ..] if get.eq_ignore_ascii_case(b"GET") && !wanted.is_empty() => wanted,
            [_, what, ..] => return Err(format!("ERR unknown subcommand '{}' of CONFIG", printable(what))),
            _ => return Err(wrong_arguments(command.name())),
        };
        let named = |name: &str| wanted.iter().any(|w| w == b"*" || w.eq_ignore_ascii_case(name.as_bytes()));
        let found: Vec<_> = SETTINGS.iter().filter(|(name, _)| named(name)).collect();
        write::map(out, self.version, found.len());
        for (name, value) in found {
            write::bulk(out, name.as_bytes());
            write::bulk(out, value.as_bytes());
        }
        Ok(())
    }
}

/// It keeps no files of its own, and knows one database.
const SETTINGS: [(&str, &str); 3] = [("appendonly", "no"), ("databases", "1"), ("save", "")];

enum Known {
    Ping,
    Echo,
    Hello,
    Select,
    Client,
    Command,
    Info,
    Config,
    Quit,
    Reset,
}

fn known(name: &[u8]) -> Option<Known> {
    // Most commands are GET and SET: their length tells them apart at once.
    if name.len() < 4 || name.len() > 7 {
        return None;
    }
    Some(match name.to_ascii_uppercase().as_slice() {
        b"PING" => Known::Ping,
        b"ECHO" => Known::Echo,
        b"HELLO" => Known::Hello,
        b"SELECT" => Known::Select,
        b"CLIENT" => Known::Client,
        b"COMMAND" => Known::Command,
        b"INFO" => Known::Info,
        b"CONFIG" => Known::Config,
        b"QUIT" => Known::Quit,
        b"RESET" => Known::Reset,
        _ => return None,
    })
}

fn ok(out: &mut Vec<u8>) -> Result<(), String> {
    write::simple(out, "OK");
    Ok(())
}

fn echo(command: &Command<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let [_, text] = command.args() else { return Err(wrong_arguments(command.name())) };
    write::bulk(out, text);
    Ok(())
}

fn select(command: &Command<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    match command.args() {
        [_, b"0"] => ok(out),
        [_, _] => Err("ERR DB index is out of range: there is only 0".into()),
        _ => Err(wrong_arguments(command.name())),
    }
}

/// Nothing is told about commands: clients that ask take it as an old server's answer.
fn about_commands(command: &Command<'_>, version: Version, out: &mut Vec<u8>) -> Result<(), String> {
    let what = command.arg(1).map(<[u8]>::to_ascii_uppercase);
    match what.as_deref() {
        None | Some(b"INFO" | b"LIST") => write::array(out, 0),
        Some(b"COUNT") => write::integer(out, 0),
        Some(b"DOCS") => write::map(out, version, 0),
        Some(other) => return Err(format!("ERR unknown subcommand '{}' of COMMAND", printable(other))),
    }
    Ok(())
}

fn checked_name(name: &[u8]) -> Result<Bytes, String> {
    let plain = name.len() <= NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic);
    if plain {
        Ok(Bytes::copy_from_slice(name))
    } else {
        Err("ERR a connection's name is short, without spaces".into())
    }
}
