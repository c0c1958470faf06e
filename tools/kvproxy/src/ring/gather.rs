//! One answer made of the answers of several servers.

use crate::resp::{replies, write};

/// How the parts become one.
#[derive(Debug)]
pub enum Join {
    /// Elements back in the order of the keys: of each part, the places of its keys.
    Elements(Vec<Vec<u32>>),
    /// The sum of counts.
    Sum,
    /// `OK` when all say so.
    Ok,
}

/// An answer in the making.
#[derive(Debug)]
pub struct Gather {
    join: Join,
    writes: bool,
    /// What each part was answered.
    parts: Vec<Option<Vec<u8>>>,
    left: usize,
    held: usize,
}

impl Gather {
    /// Of `parts` parts, of a command that writes or not.
    pub fn new(join: Join, parts: usize, writes: bool) -> Gather {
        Gather { join, writes, parts: vec![None; parts], left: parts, held: 0 }
    }

    /// Takes the answer of a part; the whole with the last.
    pub fn part(&mut self, part: usize, reply: &[u8]) -> Option<Vec<u8>> {
        let slot = self.parts.get_mut(part).filter(|slot| slot.is_none())?;
        *slot = Some(reply.to_vec());
        self.left -= 1;
        self.held += reply.len();
        if self.left > 0 {
            return None;
        }
        self.held = 0;
        Some(self.whole())
    }

    /// Bytes of answers that wait for those of other parts.
    pub fn held(&self) -> usize {
        self.held
    }

    fn whole(&self) -> Vec<u8> {
        let parts: Vec<&[u8]> = self.parts.iter().flatten().map(Vec::as_slice).collect();
        let errors: Vec<&[u8]> = parts.iter().filter_map(|part| replies::error(part)).collect();
        match errors.first() {
            None => self.joined(&parts).unwrap_or_else(|| write::error_reply("ERR a server gave an unexpected answer")),
            Some(first) => write::error_reply(&self.failure(first, &errors, parts.len())),
        }
    }

    fn joined(&self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match &self.join {
            Join::Ok => write::simple(&mut out, "OK"),
            Join::Sum => {
                let numbers = parts.iter().map(|part| replies::integer(part));
                write::integer(&mut out, numbers.sum::<Option<i64>>()?);
            }
            Join::Elements(places) => {
                let mut found = vec![&b""[..]; places.iter().map(Vec::len).sum()];
                for (places, part) in places.iter().zip(parts) {
                    let elements = replies::elements(part).filter(|elements| elements.len() == places.len())?;
                    for (place, element) in places.iter().zip(elements) {
                        *found.get_mut(*place as usize)? = element;
                    }
                }
                write::array(&mut out, found.len());
                found.iter().for_each(|element| out.extend_from_slice(element));
            }
        }
        Some(out)
    }

    /// The error of a whole of which not every part was done.
    fn failure(&self, first: &[u8], errors: &[&[u8]], parts: usize) -> String {
        let text = String::from_utf8_lossy(first).into_owned();
        let unknown = errors.iter().any(|error| error.starts_with(b"UNKNOWN "));
        if !self.writes || (errors.len() == parts && !unknown) {
            return text;
        }
        let done = parts - errors.len();
        let may = if unknown { ", others may have been" } else { "" };
        format!("UNKNOWN {done} of the {parts} servers have done their part{may}: {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(mut gather: Gather, parts: &[&str]) -> String {
        let mut done = None;
        for (at, part) in parts.iter().enumerate().rev() {
            assert_eq!(done, None, "before the last part");
            done = gather.part(at, part.as_bytes());
        }
        String::from_utf8(done.unwrap()).unwrap()
    }

    #[test]
    fn parts_become_one() {
        let elements = Gather::new(Join::Elements(vec![vec![2, 0], vec![1]]), 2, false);
        assert_eq!(whole(elements, &["*2\r\n$1\r\nc\r\n$-1\r\n", "*1\r\n+b\r\n"]), "*3\r\n$-1\r\n+b\r\n$1\r\nc\r\n");
        assert_eq!(whole(Gather::new(Join::Sum, 2, true), &[":2\r\n", ":3\r\n"]), ":5\r\n");
        assert_eq!(whole(Gather::new(Join::Ok, 2, true), &["+OK\r\n", "+OK\r\n"]), "+OK\r\n");
    }

    #[test]
    fn an_answer_of_another_form_is_an_error_not_a_guess() {
        assert!(whole(Gather::new(Join::Sum, 2, true), &["+OK\r\n", ":3\r\n"]).starts_with("-ERR"));
        let elements = Gather::new(Join::Elements(vec![vec![0], vec![1]]), 2, false);
        assert!(whole(elements, &["*2\r\n:1\r\n:2\r\n", "*1\r\n:3\r\n"]).starts_with("-ERR"));
    }

    #[test]
    fn what_was_done_in_part_is_not_called_not_applied() {
        let [done, not, lost] = ["+OK\r\n", "-NOTAPPLIED a\r\n", "-UNKNOWN b\r\n"];
        let said = |parts: &[&str], writes| whole(Gather::new(Join::Ok, parts.len(), writes), parts);
        assert_eq!(said(&[not, not], true), not);
        assert!(said(&[done, not], true).starts_with("-UNKNOWN 1 of the 2 servers have done their part: NOTAPPLIED a"));
        assert!(said(&[lost, not], true).starts_with("-UNKNOWN 0 of the 2 servers have done their part, others may"));
        assert_eq!(said(&[done, not], false), not);
    }
}
