//! The host of a URL, as Go's `net/url` finds it: goim takes it for the id of a room.

/// The host in a name, empty where there is none. `None` where Go refuses the name.
pub(super) fn host(name: &str) -> Option<String> {
    if name.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return None;
    }
    let (name, fragment) = name.split_once('#').unwrap_or((name, ""));
    unescape(fragment)?;
    let (scheme, rest) = scheme(name)?;
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    if !rest.starts_with('/') {
        // With a scheme it is opaque; without one, a colon in the first part of the path could be one.
        let first = rest.split('/').next().unwrap_or(rest);
        return if scheme || !first.contains(':') {
            if !scheme {
                unescape(rest)?;
            }
            Some(String::new())
        } else {
            None
        };
    }
    let authority = rest.strip_prefix("//").filter(|_| scheme || !rest.starts_with("///"));
    let Some(authority) = authority else {
        unescape(rest)?;
        return Some(String::new());
    };
    let (authority, path) = authority.split_at(authority.find('/').unwrap_or(authority.len()));
    unescape(path)?;
    let host = match authority.rsplit_once('@') {
        None => authority,
        Some((user, host)) => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
            if !user.chars().all(allowed) {
                return None;
            }
            unescape(user)?;
            host
        }
    };
    authority_host(host)
}

/// Whether there is a scheme, and what is behind it.
fn scheme(name: &str) -> Option<(bool, &str)> {
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at > 0 => return Some((true, &name[at + 1..])),
            b':' => return None,
            _ => break,
        }
    }
    Some((false, name))
}

fn authority_host(host: &str) -> Option<String> {
    let port = if host.starts_with('[') {
        let end = host.rfind(']')?;
        // A zone may be escaped freely, and its percent sign is.
        let (address, port) = host.split_at(end + 1);
        if let Some((before, zone)) = address.split_once("%25") {
            let (before, zone) = (unescape_host(before)?, unescape(zone)?);
            return is_port(port).then(|| format!("{before}%{zone}{port}"));
        }
        port
    } else {
        host.rfind(':').map_or("", |at| &host[at..])
    };
    if is_port(port) { unescape_host(host) } else { None }
}

/// Nothing, or a colon and digits, if any.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// In a host only bytes beyond ASCII may be escaped, and some characters may not stand at all.
fn unescape_host(host: &str) -> Option<String> {
    let allowed =
        |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "!$&'()*+,;=:[]<>\"-_.~%".contains(c);
    let escapes = host.match_indices('%').map(|(at, _)| host.get(at + 1..at + 3).unwrap_or_default());
    let beyond_ascii = |digits: &str| digits == "25" || digits.as_bytes().first() >= Some(&b'8');
    if !host.chars().all(allowed) || !escapes.into_iter().all(beyond_ascii) {
        return None;
    }
    unescape(host)
}

/// Replaces `%xx`. `None` where those are not two digits.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push((digit()? * 16 + digit()?) as u8);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go says.
    #[test]
    fn hosts_as_go_finds_them() {
        for (name, expected) in [
            ("live://1000", Some("1000")),
            ("a://b/c", Some("b")),
            ("a://b?c", Some("b")),
            ("a://b#c", Some("b")),
            ("a://u:p@b:80/c", Some("b:80")),
            ("a://b:", Some("b:")),
            ("a://", Some("")),
            ("a:///b", Some("")),
            ("A+b-c.1://b", Some("b")),
            ("//b/c", Some("b")),
            ("///b", Some("")),
            ("a:b", Some("")),
            ("live", Some("")),
            ("", Some("")),
            ("*", Some("")),
            ("/a:b", Some("")),
            ("a://房间", Some("房间")),
            ("a://%E6%88%BF", Some("房")),
            ("a://b_c~d!e", Some("b_c~d!e")),
            ("a://[::1]:80", Some("[::1]:80")),
            ("a://[fe80::1%25en0]:80", Some("[fe80::1%en0]:80")),
            ("a://b c", None),
            ("a://b%41", None),
            ("a://b%4", None),
            ("a://b/%zz", None),
            ("a://b#%", None),
            ("a://b:x", None),
            ("a://b|c", None),
            ("a://b\\c", None),
            ("a://[::1", None),
            ("a://u v@b", None),
            ("a://b\n", None),
            (":b", None),
            ("1a:b", None),
            ("1a:b/c", None),
            ("%", None),
        ] {
            assert_eq!(host(name).as_deref(), expected, "{name:?}");
        }
    }
}
