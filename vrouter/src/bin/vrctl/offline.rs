//! `route get --routes FILE`: longest-prefix matches in a table of one's own, without a router.
//!
//! ```text
//!  routes                          batch           output
//!  10.0.0.0/8 192.0.2.1            10.1.2.3        10.1.2.3 10.1.0.0/16 192.0.2.2
//!  10.1.0.0/16 192.0.2.2           10.9.9.9        10.9.9.9 10.0.0.0/8 192.0.2.1
//!  2001:db8::/32  # no next hop    2001:db8::7     2001:db8::7 2001:db8::/32
//!                                  8.8.8.8         8.8.8.8 -
//! ```
//!
//! The table is the router's own FIB, of both families. What follows a `#` is a comment; a next
//! hop is any word. In JSON, what there is not is `null`. Where a prefix occurs again, the later line counts, and a warning says so.

use std::collections::HashMap;
use std::fmt::{Display, Write as _};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use fib::{Address, AnyPrefix, Fib, FibWriter, GroupId, Prefix};

use crate::cli::Format;
use crate::failure::Failure;

/// Bytes that are read and written at a time.
const BLOCK: usize = 1 << 18;
/// What some editors begin a UTF-8 file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Looks up one address, or every address of a batch (`-`: of stdin).
pub(crate) fn route(
    routes: &Path,
    address: Option<IpAddr>,
    batch: Option<&str>,
    format: Format,
) -> Result<(), Failure> {
    if matches!(format, Format::Yaml) {
        return Err("matches in a table of routes are printed as lines or JSON".to_owned().into());
    }
    let table = Table::read(routes)?;
    let mut out = BufWriter::with_capacity(BLOCK, io::stdout().lock());
    if let Some(address) = address {
        table.print(&mut out, &address.to_string(), address, format)?;
    }
    match batch {
        None => {}
        Some("-") => table.answer(io::stdin().lock(), "stdin", format, &mut out)?,
        Some(file) => table.answer(open(Path::new(file))?, file, format, &mut out)?,
    }
    Ok(out.flush()?)
}

fn open(path: &Path) -> Result<BufReader<std::fs::File>, Failure> {
    let file = std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(BufReader::with_capacity(BLOCK, file))
}

/// Routes of both families.
struct Table {
    fib4: Arc<Fib<Ipv4Addr>>,
    fib6: Arc<Fib<Ipv6Addr>>,
    /// By group; the first stands for none.
    next_hops: Vec<String>,
}

impl Table {
    fn read(path: &Path) -> Result<Self, Failure> {
        let mut routes = Routes::default();
        // The group of routes without a next hop.
        routes.group("");
        each_line(open(path)?, &path.display(), |words| routes.take(words))?;
        let (fib4, again4) = build(routes.v4)?;
        let (fib6, again6) = build(routes.v6)?;
        let again = again4 + again6;
        if again > 0 {
            let (lines, count) =
                if again == 1 { ("line repeats", "counts") } else { ("lines repeat", "count") };
            eprintln!("vrctl: {}: {again} {lines} a prefix; the later of each {count}", path.display());
        }
        Ok(Table { fib4, fib6, next_hops: routes.next_hops })
    }

    fn answer(
        &self,
        addresses: impl BufRead,
        name: &str,
        format: Format,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let mut failed = None;
        let read = each_line(addresses, &name, |line| {
            let text = line.trim_ascii();
            let address = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
            if let Err(error) = self.print(out, text, address, format) {
                failed = Some(error);
                return Err(String::new());
            }
            Ok(())
        });
        match failed {
            Some(error) => Err(error.into()),
            None => {
                // What comes before a wrong line is answered.
                out.flush()?;
                read
            }
        }
    }

    fn print(&self, out: &mut impl Write, text: &str, address: IpAddr, format: Format) -> io::Result<()> {
        let (prefix, group) = match address {
            IpAddr::V4(address) => find(&self.fib4, address, AnyPrefix::V4),
            IpAddr::V6(address) => find(&self.fib6, address, AnyPrefix::V6),
        }
        .unzip();
        let next_hop = group.map_or("", |group: GroupId| &self.next_hops[group.index()]);
        if format == Format::Json {
            let prefix = prefix.map(|prefix: AnyPrefix| prefix.to_string());
            let next_hop = Some(next_hop).filter(|next_hop| !next_hop.is_empty());
            let line = serde_json::json!({ "address": text, "prefix": prefix, "next_hop": next_hop });
            return writeln!(out, "{line}");
        }
        match prefix {
            None => writeln!(out, "{text} -"),
            Some(prefix) if next_hop.is_empty() => writeln!(out, "{text} {prefix}"),
            Some(prefix) => writeln!(out, "{text} {prefix} {next_hop}"),
        }
    }
}

/// Routes as they are read.
#[derive(Default)]
struct Routes {
    v4: Vec<(Prefix<Ipv4Addr>, GroupId)>,
    v6: Vec<(Prefix<Ipv6Addr>, GroupId)>,
    next_hops: Vec<String>,
    groups: HashMap<String, GroupId>,
}

impl Routes {
    /// Takes one line.
    fn take(&mut self, words: &str) -> Result<(), String> {
        let mut words = words.split_ascii_whitespace();
        let prefix = words.next().unwrap_or_default();
        let prefix: AnyPrefix = prefix.parse().map_err(|error: fib::PrefixError| error.to_string())?;
        let group = self.group(words.next().unwrap_or_default());
        let group = group.ok_or_else(|| format!("more than {} different next hops", GroupId::MAX))?;
        if let Some(word) = words.next() {
            return Err(format!("{word:?} is too much: a line is PREFIX [NEXTHOP]"));
        }
        match prefix {
            AnyPrefix::V4(prefix) => self.v4.push((prefix, group)),
            AnyPrefix::V6(prefix) => self.v6.push((prefix, group)),
        }
        Ok(())
    }

    /// The group that stands for a next hop.
    fn group(&mut self, next_hop: &str) -> Option<GroupId> {
        if let Some(group) = self.groups.get(next_hop) {
            return Some(*group);
        }
        let group = GroupId::new(u32::try_from(self.next_hops.len()).ok()?)?;
        self.next_hops.push(next_hop.to_owned());
        self.groups.insert(next_hop.to_owned(), group);
        Some(group)
    }
}

fn find<A: Address>(
    fib: &Fib<A>,
    address: A,
    wrap: fn(Prefix<A>) -> AnyPrefix,
) -> Option<(AnyPrefix, GroupId)> {
    let (len, group) = fib.lookup_prefix(address)?;
    Some((wrap(Prefix::masked(address, len).ok()?), group))
}

/// A table of routes, and how many prefixes occurred again.
fn build<A: Address>(mut routes: Vec<(Prefix<A>, GroupId)>) -> Result<(Arc<Fib<A>>, usize), Failure> {
    let mut writer = FibWriter::new();
    // In ascending order the table is built fastest; of equal prefixes the later stays later.
    routes.sort_by_key(|(prefix, _)| *prefix);
    let mut again = 0;
    for (prefix, group) in routes {
        let former = writer.insert(prefix, group).map_err(|full| full.to_string())?;
        again += usize::from(former.is_some());
    }
    Ok((writer.reader(), again))
}

/// Hands every line to `take` that has more than a comment; an error gets the line's number.
fn each_line(
    mut from: impl BufRead,
    name: &impl Display,
    mut take: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), Failure> {
    let mut line = Vec::new();
    let mut number = 0u64;
    let place = |number: u64, what: &dyn Display| {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = write!(text, "{name} line {number}: {what}");
        text
    };
    loop {
        line.clear();
        number += 1;
        if from.read_until(b'\n', &mut line).map_err(|error| format!("{name}: {error}"))? == 0 {
            return Ok(());
        }
        if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        let text = std::str::from_utf8(&line).map_err(|_| place(number, &"it is not UTF-8"))?;
        let text = text.split('#').next().unwrap_or_default();
        if !text.trim_ascii().is_empty() {
            take(text).map_err(|what| place(number, &what))?;
        }
    }
}
