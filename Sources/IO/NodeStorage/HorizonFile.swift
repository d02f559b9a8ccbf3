internal import ClusterBase
internal import Glibc
internal import Synchronization

/// The number of the newest write that others may have heard of, outside of the store that holds the writes.
///
/// RocksDB drops what it takes for a torn end of its log; a damaged header there looks the same, and takes votes and
/// acknowledged entries with it. This file remembers how far the log went. It is written before anyone hears of a write,
/// which is safe when the process ends, and synced once a second, which is when the machine loses power.
///
///     slot 0 at 0 │ slot 1 at 512      each: number, eight bytes ‖ CRC-32C, four bytes; written in turn
final class HorizonFile: @unchecked Sendable {  // `last` guards the number; the kernel guards the file.
    private static let slotBytes = 512
    private let path: String
    private let fd: CInt
    private struct State {
        var number: UInt64
        var syncedNumber: UInt64
    }
    private let last: Mutex<State>

    /// What the file says; `damaged` when there is nothing in it to be believed.
    enum Content: Hashable {
        case number(UInt64)
        case missing
        case damaged
    }

    static func content(_ path: String) throws(StoreError) -> Content {
        guard let bytes = try Files.read(path) else { return .missing }
        var found: UInt64?
        for slot in 0..<2 {
            let at = slot * slotBytes
            guard let number = bytes.bigEndian64(at: at), at + 12 <= bytes.count else { continue }
            if Array(bytes[at..<at + 12]) == row(number) { found = max(found ?? 0, number) }
        }
        return found.map { .number($0) } ?? .damaged
    }

    private static func row(_ number: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(number)
        bytes.appendBigEndian(CRC32C.of(bytes))
        return bytes
    }

    /// Begins a file, durably, with this number in both slots.
    static func make(_ path: String, in folder: String, number: UInt64) throws(StoreError) {
        let slot = row(number) + [UInt8](repeating: 0, count: slotBytes - 12)
        try Files.write(slot + slot, to: path, in: folder)
    }

    init(_ path: String, number: UInt64) throws(StoreError) {
        self.path = path
        fd = open(path, O_WRONLY | O_CLOEXEC)
        if fd < 0 { throw Files.failure("open the file", path, errno) }
        last = Mutex(State(number: number, syncedNumber: number))
    }

    deinit { close(fd) }

    /// Notes a durable write before anyone hears of it.
    func note(_ number: UInt64) throws(StoreError) {
        let row = Self.row(number)
        let written = row.withUnsafeBytes {
            pwrite(fd, $0.baseAddress, $0.count, off_t(Int(number % 2) * Self.slotBytes))
        }
        if written != row.count { throw Files.failure("write the file", path, written < 0 ? errno : ENOSPC) }
        last.withLock { $0.number = number }
    }

    /// Makes the newest number durable, if that has not been done.
    func sync() throws(StoreError) {
        let number: UInt64? = last.withLock { $0.number == $0.syncedNumber ? nil : $0.number }
        guard let number else { return }
        if fdatasync(fd) != 0 { throw Files.failure("sync the file", path, errno) }
        last.withLock { $0.syncedNumber = number }
    }
}
