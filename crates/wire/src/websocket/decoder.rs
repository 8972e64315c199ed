//! From bytes to messages: headers, unmasking, fragments, UTF-8 (RFC 6455 §5.4, §8.1).

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::frame::{Header, MAX_HEADER, Opcode, apply_mask};
use super::{Message, Role, Violation};
use crate::input::Input;

/// Cuts a byte stream into messages. Holds memory only while a frame or a message is incomplete.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    /// What is incomplete, or was handed out by the last poll; `None` between messages, which is how
    /// nearly all connections spend nearly all of their time.
    partial: Option<Box<Partial>>,
}

#[derive(Debug, Default)]
struct Partial {
    /// The first `head_len` bytes of a header that the end of a read has cut.
    head: [u8; MAX_HEADER],
    head_len: usize,
    /// The frame whose payload is arriving. Its length and its mask are those of the missing part.
    frame: Option<Header>,
    /// Type of the message whose bytes, or fragments, are not yet complete.
    message: Option<Opcode>,
    /// Payload so far of that message, unmasked.
    data: Vec<u8>,
    /// Bytes of `data` that are known to be UTF-8, in a text message.
    checked: usize,
    /// Payload so far of a control frame, which may come between two fragments.
    control: Vec<u8>,
}

/// What the bytes of a frame have led to.
enum Progress {
    /// The rest of the frame has not arrived.
    Incomplete,
    /// The frame is complete, its message is not.
    Fragment,
    /// A control frame or a message lies complete in its buffer.
    Complete(Opcode),
}

impl Decoder {
    /// At the start of the stream, behind the upgrade.
    pub fn new(role: Role) -> Self {
        Self { role, partial: None }
    }

    /// The next message or control frame, or `None` when `input` is used up.
    ///
    /// An unfragmented frame that lies whole in `input` is not copied, but unmasked in place. Others
    /// are collected in memory that grows with what arrives, never with what a length claims.
    /// `max_message` is in bytes, for all fragments together; `unmasked` lets a server take frames
    /// without a mask. After a violation the stream cannot be read any further.
    pub fn poll<'s, 'i: 's>(
        &'s mut self,
        input: &mut Input<'i>,
        max_message: usize,
        unmasked: bool,
    ) -> Result<Option<Message<'s>>, Violation> {
        self.release();
        loop {
            let arriving = self.partial.as_deref().and_then(|partial| partial.frame);
            let frame = match arriving {
                Some(frame) => frame,
                None => match self.header(input)? {
                    Some(header) => self.admit(header, max_message, unmasked)?,
                    None => return Ok(None),
                },
            };
            let len = frame.len as usize;
            let whole = frame.opcode.is_control() || (frame.fin && frame.opcode != Opcode::Continuation);
            if whole && arriving.is_none() && len <= input.len() {
                let payload = input.take(len);
                if let Some(key) = frame.mask {
                    apply_mask(payload, key);
                }
                return Message::new(frame.opcode, payload).map(Some);
            }
            match self.partial.get_or_insert_default().receive(frame, input, max_message)? {
                Progress::Incomplete => return Ok(None),
                Progress::Fragment => {}
                Progress::Complete(opcode) => {
                    let partial = self.partial.get_or_insert_default();
                    let payload = if opcode.is_control() { &partial.control } else { &partial.data };
                    return Message::new(opcode, payload).map(Some);
                }
            }
        }
    }

    /// Bytes of heap that are held for incomplete frames and messages.
    pub fn held(&self) -> usize {
        self.partial
            .as_deref()
            .map_or(0, |partial| size_of::<Partial>() + partial.data.capacity() + partial.control.capacity())
    }

    /// Frees what the last poll handed out.
    fn release(&mut self) {
        if let Some(partial) = self.partial.as_deref_mut()
            && partial.frame.is_none()
        {
            if partial.message.is_none() && partial.head_len == 0 {
                self.partial = None;
            } else {
                partial.control = Vec::new();
            }
        }
    }

    /// The next header, or `None` after keeping what there is of it.
    fn header(&mut self, input: &mut Input<'_>) -> Result<Option<Header>, Violation> {
        if self.partial.as_deref().is_none_or(|partial| partial.head_len == 0) {
            if let Some((header, len)) = Header::parse(input.rest())? {
                input.take(len);
                return Ok(Some(header));
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
        let partial = self.partial.get_or_insert_default();
        while let [byte] = input.take(1) {
            partial.head[partial.head_len] = *byte;
            partial.head_len += 1;
            if let Some((header, _)) = Header::parse(&partial.head[..partial.head_len])? {
                partial.head_len = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Holds a header against what only the connection knows: our role, the limit, the open message.
    fn admit(&self, header: Header, max_message: usize, unmasked: bool) -> Result<Header, Violation> {
        match self.role {
            Role::Server if header.mask.is_none() && !unmasked => return Err(Violation::Unmasked),
            Role::Client if header.mask.is_some() => return Err(Violation::Masked),
            _ => {}
        }
        if header.opcode.is_control() {
            return Ok(header);
        }
        let open = self.partial.as_deref().filter(|partial| partial.message.is_some());
        match header.opcode {
            Opcode::Continuation if open.is_none() => return Err(Violation::UnexpectedContinuation),
            Opcode::Text | Opcode::Binary if open.is_some() => return Err(Violation::UnfinishedMessage),
            _ => {}
        }
        let so_far = open.map_or(0, |partial| partial.data.len());
        if so_far as u64 + header.len > max_message as u64 {
            return Err(Violation::TooLarge);
        }
        Ok(header)
    }
}

impl Partial {
    /// Takes what has arrived of the payload of `frame`.
    fn receive(
        &mut self,
        mut frame: Header,
        input: &mut Input<'_>,
        max_message: usize,
    ) -> Result<Progress, Violation> {
        let part = input.take(frame.len as usize);
        frame.len -= part.len() as u64;
        if let Some(key) = &mut frame.mask {
            apply_mask(part, *key);
            key.rotate_left(part.len() % 4);
        }
        let mut kind = frame.opcode;
        if kind.is_control() {
            self.control.extend_from_slice(part);
        } else {
            kind = *self.message.get_or_insert(kind);
            append(&mut self.data, part, max_message);
            if kind == Opcode::Text {
                self.check_text()?;
            }
        }
        if frame.len > 0 {
            self.frame = Some(frame);
            return Ok(Progress::Incomplete);
        }
        self.frame = None;
        if !frame.fin {
            return Ok(Progress::Fragment);
        }
        if !kind.is_control() {
            self.message = None;
        }
        Ok(Progress::Complete(kind))
    }

    /// Fails as soon as no further byte can make the text valid. A character that is cut by the end
    /// of the data is left for the next call.
    fn check_text(&mut self) -> Result<(), Violation> {
        self.checked += match str::from_utf8(&self.data[self.checked..]) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(Violation::BadText),
        };
        Ok(())
    }
}

/// Appends with the usual doubling, but not to more than a message may have.
fn append(data: &mut Vec<u8>, part: &[u8], max_message: usize) {
    let need = data.len() + part.len();
    if need > data.capacity() {
        let room = data.capacity().saturating_mul(2).min(max_message).max(need);
        data.reserve_exact(room - data.len());
    }
    data.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::{write_frame, write_header};

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    #[test]
    fn masks_are_required_of_clients_only() {
        let check = |role, mask, unmasked, expected: Result<(), Violation>| {
            let mut frame = Vec::new();
            write_frame(&mut frame, Opcode::Ping, b"x", mask);
            let mut decoder = Decoder::new(role);
            let got = decoder.poll(&mut Input::new(&mut frame), 10, unmasked);
            assert_eq!(got, expected.map(|()| Some(Message::Ping(b"x"))));
        };
        check(Role::Server, Some(KEY), false, Ok(()));
        check(Role::Server, Some(KEY), true, Ok(()));
        check(Role::Server, None, false, Err(Violation::Unmasked));
        check(Role::Server, None, true, Ok(()));
        check(Role::Client, None, false, Ok(()));
        check(Role::Client, Some(KEY), false, Err(Violation::Masked));
        check(Role::Client, Some(KEY), true, Err(Violation::Masked));
    }

    #[test]
    fn whole_frames_are_not_copied() {
        let mut frame = Vec::new();
        write_frame(&mut frame, Opcode::Binary, b"payload", Some(KEY));
        let place = frame[6..].as_ptr();
        let mut decoder = Decoder::new(Role::Server);
        let mut input = Input::new(&mut frame);
        let Ok(Some(Message::Binary(payload))) = decoder.poll(&mut input, 10, false) else {
            panic!("a whole binary frame is a message")
        };
        assert_eq!((payload, payload.as_ptr()), (&b"payload"[..], place));
        assert_eq!(decoder.held(), 0);
    }

    #[test]
    fn nothing_is_held_between_messages() {
        assert!(size_of::<Decoder>() <= 40, "{} bytes", size_of::<Decoder>());
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Opcode::Binary, &[1; 100], Some(KEY));
        bytes[0] &= 0x7f;
        write_frame(&mut bytes, Opcode::Ping, &[2; 100], Some(KEY));
        write_frame(&mut bytes, Opcode::Continuation, &[3; 100], Some(KEY));
        let mut decoder = Decoder::new(Role::Server);
        let mut poll = |bytes: &mut [u8]| {
            let done = decoder.poll(&mut Input::new(bytes), 200, false).unwrap().is_some();
            (done, decoder.held())
        };
        let empty = size_of::<Partial>();
        assert_eq!(poll(&mut []), (false, 0));
        assert_eq!(poll(&mut bytes[..1]), (false, empty));
        assert_eq!(poll(&mut bytes[1..106]), (false, empty + 100));
        assert_eq!(poll(&mut bytes[106..211]), (false, empty + 200 - 1));
        assert_eq!(poll(&mut bytes[211..212]), (true, empty + 200 + 98));
        assert_eq!(poll(&mut []), (false, empty + 100));
        assert_eq!(poll(&mut bytes[212..317]), (false, empty + 200));
        assert_eq!(poll(&mut bytes[317..318]), (true, empty + 200));
        assert_eq!(poll(&mut []), (false, 0));
    }

    /// A length is a promise: memory follows what has arrived, and a message never takes more than
    /// its limit, in however many pieces it comes.
    #[test]
    fn memory_grows_with_what_arrives() {
        const MAX: usize = 1 << 20;
        let mut bytes = Vec::new();
        write_header(&mut bytes, Opcode::Binary, MAX, Some(KEY));
        let mut decoder = Decoder::new(Role::Server);
        assert_eq!(decoder.poll(&mut Input::new(&mut bytes), MAX, false), Ok(None));
        let (mut arrived, mut growths, mut last) = (0, 0, decoder.held());
        while arrived < MAX - 100 {
            assert_eq!(decoder.poll(&mut Input::new(&mut [0; 100]), MAX, false), Ok(None));
            arrived += 100;
            growths += usize::from(decoder.held() != last);
            last = decoder.held();
            assert!(last <= size_of::<Partial>() + MAX.min(2 * arrived), "{last} held for {arrived}");
        }
        assert!(growths <= 16, "grown {growths} times");
    }
}
