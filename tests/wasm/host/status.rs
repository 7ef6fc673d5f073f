//! Numbers of the proxy-wasm ABI 0.2.1.

/// What a host function answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// No such key, header, property, metric or queue.
    NotFound = 1,
    /// An argument that the host does not accept, or a map that does not exist at this point of the stream's life.
    BadArgument = 2,
    /// A value that has no serialization.
    SerializationFailure = 3,
    /// A value that cannot be read.
    ParseFailure = 4,
    /// Memory outside the guest's.
    InvalidMemoryAccess = 6,
    /// The queue holds nothing.
    Empty = 7,
    /// Somebody else wrote the shared value in between.
    CasMismatch = 8,
    /// The host could not do it.
    InternalFailure = 10,
    /// This host does not have the function.
    Unimplemented = 12,
}

impl Status {
    /// The number as the guest sees it.
    pub fn number(self) -> u32 {
        self as u32
    }
}

/// Which header map a guest means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapKind {
    RequestHeaders,
    ResponseHeaders,
    CalloutHeaders,
    /// Trailers and gRPC metadata, which this host never has.
    Absent,
}

impl MapKind {
    pub(crate) fn of(number: u32) -> Result<Self, Status> {
        match number {
            0 => Ok(Self::RequestHeaders),
            2 => Ok(Self::ResponseHeaders),
            6 => Ok(Self::CalloutHeaders),
            1 | 3 | 4 | 5 | 7 => Ok(Self::Absent),
            _ => Err(Status::BadArgument),
        }
    }
}

/// Which buffer a guest means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BufferKind {
    CalloutBody,
    VmConfiguration,
    PluginConfiguration,
    /// Bodies of streams, which this host never has.
    Absent,
}

impl BufferKind {
    pub(crate) fn of(number: u32) -> Result<Self, Status> {
        match number {
            4 => Ok(Self::CalloutBody),
            6 => Ok(Self::VmConfiguration),
            7 => Ok(Self::PluginConfiguration),
            0..=3 | 5 | 8 => Ok(Self::Absent),
            _ => Err(Status::BadArgument),
        }
    }
}
