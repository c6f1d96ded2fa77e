//! URLs as Go's `net/url` parses them (net/url/url.go), as far as a docker config's keys need it: host and path.
//!
//! A general URL library normalises: it lower-cases hosts, drops default ports, resolves dots. Go does none of that, and the
//! kubelet compares what Go leaves. All is bytes, since percent-decoding gives any.

use std::net::Ipv6Addr;

/// Host with its port, and decoded path, of an `http` or `https` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostAndPath {
    pub(super) host: Vec<u8>,
    pub(super) path: Vec<u8>,
}

/// Go refuses the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotAUrl;

/// Parses what stands behind `https://`. Userinfo, query and fragment are checked where Go does, and forgotten.
pub(super) fn parse(text: &[u8]) -> Result<HostAndPath, NotAUrl> {
    // The control characters are looked for before the fragment is known to be one; it is checked on its own.
    let (text, fragment) = cut(text, b'#');
    if text.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
        return Err(NotAUrl);
    }
    let (text, _query) = cut(text, b'?');
    let slash = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
    let (authority, path) = text.split_at(slash);
    let host = match authority.iter().rposition(|byte| *byte == b'@') {
        None => parse_host(authority)?,
        Some(at) => {
            let host = parse_host(&authority[at + 1..])?;
            check_userinfo(&authority[..at])?;
            host
        }
    };
    let path = unescape(path)?;
    if let Some(fragment) = fragment {
        unescape(fragment)?;
    }
    Ok(HostAndPath { host, path })
}

fn cut(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == at) {
        Some(i) => (&text[..i], Some(&text[i + 1..])),
        None => (text, None),
    }
}

/// `validUserinfo`, and its escapes.
fn check_userinfo(userinfo: &[u8]) -> Result<(), NotAUrl> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(byte);
    if !userinfo.iter().all(allowed) {
        return Err(NotAUrl);
    }
    let (user, password) = cut(userinfo, b':');
    unescape(user)?;
    unescape(password.unwrap_or_default())?;
    Ok(())
}

/// `parseHost`: an address in brackets, or a name with at most one colon, before the digits of a port.
fn parse_host(host: &[u8]) -> Result<Vec<u8>, NotAUrl> {
    match host.iter().rposition(|byte| *byte == b'[') {
        None => {}
        Some(0) => {
            let close = host.iter().rposition(|byte| *byte == b']').ok_or(NotAUrl)?;
            let (address, port) = (&host[1..close], &host[close + 1..]);
            check_port(port)?;
            // The zone of an address begins with an escaped percent sign (RFC 6874).
            let zone = address.windows(3).position(|three| three == b"%25").unwrap_or(address.len());
            let mut plain = unescape_host(&address[..zone])?;
            plain.extend(unescape_zone(&address[zone..])?);
            if !is_ipv6(&plain) {
                return Err(NotAUrl);
            }
            return Ok([b"[", plain.as_slice(), b"]", port].concat());
        }
        Some(_) => return Err(NotAUrl),
    }
    if let Some(colon) = host.iter().position(|byte| *byte == b':') {
        check_port(&host[colon..])?;
    }
    unescape_host(host)
}

fn check_port(port: &[u8]) -> Result<(), NotAUrl> {
    match port {
        [] => Ok(()),
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => Ok(()),
        _ => Err(NotAUrl),
    }
}

/// `netip.ParseAddr`, for what is not IPv4.
fn is_ipv6(address: &[u8]) -> bool {
    let Ok(address) = std::str::from_utf8(address) else { return false };
    let (address, zone) = address.split_once('%').map_or((address, None), |(address, zone)| (address, Some(zone)));
    address.parse::<Ipv6Addr>().is_ok() && zone != Some("")
}

fn unescape(text: &[u8]) -> Result<Vec<u8>, NotAUrl> {
    unescape_if(text, |_| true, |_| true)
}

/// In a host only bytes beyond ASCII may be escaped, and the percent sign.
fn unescape_host(text: &[u8]) -> Result<Vec<u8>, NotAUrl> {
    unescape_if(text, |byte| byte >= 0x80 || byte == b'%', |byte| byte >= 0x80 || is_host_byte(byte))
}

fn unescape_zone(text: &[u8]) -> Result<Vec<u8>, NotAUrl> {
    let escaped = |byte: u8| byte == b'%' || byte == b' ' || byte < 0x80 && is_host_byte(byte);
    unescape_if(text, escaped, |byte| byte >= 0x80 || is_host_byte(byte))
}

/// What may stand in a host as it is (RFC 3986, and `<`, `>`, `"`, which Go lets pass).
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"".contains(&byte)
}

fn unescape_if(
    text: &[u8],
    may_be_escaped: impl Fn(u8) -> bool,
    may_be_plain: impl Fn(u8) -> bool,
) -> Result<Vec<u8>, NotAUrl> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            if !may_be_plain(*first) {
                return Err(NotAUrl);
            }
            plain.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else { return Err(NotAUrl) };
        let byte = digit(*high).ok_or(NotAUrl)? << 4 | digit(*low).ok_or(NotAUrl)?;
        if !may_be_escaped(byte) {
            return Err(NotAUrl);
        }
        plain.push(byte);
        rest = after;
    }
    Ok(plain)
}

/// `net.SplitHostPort`: host and port where there is one, and else the host as a whole and no port.
pub(super) fn split_port(host: &[u8]) -> (&[u8], &[u8]) {
    let whole = (host, &b""[..]);
    let Some(colon) = host.iter().rposition(|byte| *byte == b':') else { return whole };
    let port = &host[colon + 1..];
    let name = if let [b'[', inner @ ..] = host {
        match inner.iter().position(|byte| *byte == b']') {
            Some(end) if end + 2 == colon => &inner[..end],
            _ => return whole,
        }
    } else {
        &host[..colon]
    };
    let brackets = |text: &[u8]| text.iter().any(|byte| matches!(byte, b'[' | b']'));
    let plain = !host.starts_with(b"[");
    if plain && (name.contains(&b':') || brackets(name)) || brackets(port) || !plain && name.contains(&b'[') {
        return whole;
    }
    (name, port)
}
