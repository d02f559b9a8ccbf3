import ClusterBase
import FleetModel
import Glibc
import Reactor
import TLSSession

/// What tells whether a file is still the one that was looked at.
struct FileStamp: Hashable, Sendable {
    var size: Int64
    var seconds: Int64
    var nanoseconds: Int64
    var number: UInt64
}

/// A folder of images, by calls that may take time; `ImageStore` says who makes them when.
struct ImageFiles: Sendable {
    struct Failure: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
        static func system(_ act: String) -> Failure { Failure("can't \(act): \(String(cString: strerror(errno)))") }
    }

    /// What there is of an image.
    struct Content: Sendable {
        var size: Int64
        /// Once all of it is here.
        var head: ImageHead?
        init(_ size: Int64, _ head: ImageHead? = nil) { (self.size, self.head) = (size, head) }
    }

    enum Outcome: Sendable {
        case whole(FileStamp)
        /// All came, with another hash; nothing is left.
        case damaged
        /// What came stays.
        case short(String)
    }

    /// What somebody sends of an image: one tenant's bytes are no other's.
    struct Upload: Hashable, Sendable {
        /// Empty: what is to be everybody's.
        var tenant: String
        var digest: String
        var name: String { "\(digest).\(tenant)\(Upload.suffix)" }
        private static let suffix = ".up"

        init(tenant: String, digest: String) {
            self.tenant = tenant
            self.digest = digest
        }
        /// Nil of a file that is none.
        init?(name: String) {
            let rest = name.dropFirst(64)
            guard rest.hasPrefix("."), rest.hasSuffix(Upload.suffix), rest.count > Upload.suffix.count else {
                return nil
            }
            self.init(
                tenant: String(rest.dropFirst().dropLast(Upload.suffix.count)), digest: String(name.prefix(64)))
        }
    }

    let folder: String
    /// Between bytes of a pull, and until the first of them.
    private static let patienceMilliseconds: Int32 = 60_000
    private static let pieceBytes = 1 << 18

    func path(_ digest: String) -> String { "\(folder)/\(digest)" }
    private func partPath(_ digest: String) -> String { "\(folder)/\(digest).part" }
    /// Sockets' paths have a bound.
    func socketPath(_ number: UInt64) -> String { "\(folder)/s\(String(number, radix: 36))" }

    /// Sockets of a process before.
    func clear() {
        for name in NodeFiles.names(in: folder) where name.hasPrefix("s") { unlink("\(folder)/\(name)") }
    }

    // MARK: Looking

    func stamp(_ digest: String) -> FileStamp? { stamp(at: path(digest)) }

    private func stamp(at path: String) -> FileStamp? {
        var about = stat()
        guard stat(path, &about) == 0, about.st_mode & S_IFMT == S_IFREG else { return nil }
        return FileStamp(
            size: Int64(about.st_size), seconds: Int64(about.st_mtim.tv_sec),
            nanoseconds: Int64(about.st_mtim.tv_nsec), number: UInt64(about.st_ino))
    }

    func partSize(_ digest: String) -> Int64 { stamp(at: partPath(digest))?.size ?? 0 }

    /// Seconds since it was written.
    func age(_ name: String) -> Int64 {
        stamp(at: path(name)).map { Int64(time(nil)) - $0.seconds } ?? 0
    }

    /// Images, and parts and uploads of some, with the image that each belongs to.
    func sizes() -> [(name: String, digest: String, size: Int64)] {
        NodeFiles.names(in: folder).compactMap { name in
            guard let stamp = stamp(at: path(name)) else { return nil }
            return (name, String(name.prefix { $0 != "." }), stamp.size)
        }
    }

    /// What was begun and may never be completed.
    func uploads() -> [Upload] { NodeFiles.names(in: folder).compactMap { Upload(name: $0) } }

    func removeFile(_ name: String) { unlink(path(name)) }
    func remove(_ digest: String) { unlink(path(digest)) }

    /// The SHA-256 of a whole image, in hexadecimal; nil when it can't be read.
    func hash(_ digest: String) -> String? { hash(at: path(digest)) }

    private func hash(at path: String) -> String? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var hash = RunningHash()
        var piece = [UInt8](repeating: 0, count: ImageFiles.pieceBytes)
        while true {
            let count = read(file, &piece, piece.count)
            if count < 0 && errno == EINTR { continue }
            if count < 0 { return nil }
            if count == 0 { break }
            piece.withUnsafeBytes { hash.add(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        }
        return hash.finish().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    // MARK: Taking in

    private func openToWrite(_ path: String) -> Int32 {
        open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    }

    private static func write(_ file: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int64) -> Bool {
        var done = 0
        while done < bytes.count {
            let count = pwrite(file, bytes.baseAddress?.advanced(by: done), bytes.count - done, off_t(offset) + done)
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { return false }
            done += count
        }
        return true
    }

    /// Bytes that begin where the upload ends; others are not taken, and the answer says where that is.
    func append(_ upload: Upload, _ bytes: [UInt8], at offset: Int64) -> Result<Content, Failure> {
        let path = path(upload.name)
        let size = stamp(at: path)?.size ?? 0
        if bytes.isEmpty || offset != size { return .success(Content(size)) }
        let file = openToWrite(path)
        guard file >= 0 else { return .failure(.system("write to \(path)")) }
        defer { close(file) }
        guard bytes.withUnsafeBytes({ ImageFiles.write(file, $0, at: offset) }) else {
            return .failure(.system("write to \(path)"))
        }
        return .success(Content(offset + Int64(bytes.count)))
    }

    /// An upload whose bytes have the hash becomes an image; one that has another is removed. That this node has the image
    /// already helps nobody who has not sent all of it. `good` is the file here that is known to be right, and stays.
    func complete(_ upload: Upload, good: FileStamp?) -> Result<Content, Failure> {
        let path = path(upload.name)
        guard let sent = stamp(at: path) else {
            return .failure(Failure("none of the image's bytes are here; send them to this node first"))
        }
        let head = head(at: path, sent.size)
        if head?.namesOthers == true {
            unlink(path)
            return .failure(
                Failure(
                    "it is a qcow2 file that names another file; convert it to one that stands alone, and send that"))
        }
        if let good, good == stamp(upload.digest), good.size == sent.size, hash(at: path) == upload.digest {
            unlink(path)
            return .success(Content(good.size, head))
        }
        switch finish(upload.digest, path) {
        case .whole(let stamp): return .success(Content(stamp.size, head))
        case .damaged:
            return .failure(
                Failure("the \(sent.size) bytes that came have another SHA-256, and are gone; send them again"))
        case .short(let reason): return .failure(Failure(reason))
        }
    }

    private func head(at path: String, _ size: Int64) -> ImageHead? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var head = [UInt8](repeating: 0, count: ImageHead.byteCount)
        let count = pread(file, &head, head.count, 0)
        return count < 0 ? nil : ImageHead(Array(head[..<count]), size: UInt64(clamping: size))
    }

    private func finish(_ digest: String, _ part: String) -> Outcome {
        let file = openToWrite(part)
        guard file >= 0 else { return .short("\(Failure.system("write to \(part)"))") }
        let isSynced = fsync(file) == 0
        close(file)
        guard isSynced else { return .short("\(Failure.system("write to \(part)"))") }
        guard hash(at: part) == digest else {
            unlink(part)
            return .damaged
        }
        guard rename(part, path(digest)) == 0 else { return .short("\(Failure.system("rename \(part)"))") }
        let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if directory >= 0 {
            fsync(directory)
            close(directory)
        }
        guard let stamp = stamp(digest) else { return .short("the image vanished from \(folder)") }
        return .whole(stamp)
    }

    // MARK: Between nodes

    /// Where the stream of this node's network connects to.
    func listen(_ path: String) -> Result<Int32, Failure> {
        do throws(SystemError) {
            return .success(try Socket.listening(onPath: path).release())
        } catch {
            return .failure(Failure("\(error)"))
        }
    }

    /// Waits for bytes, and for somebody to call it off.
    private static func isReady(_ file: Int32, _ cancel: Guarded<Bool>) -> Bool {
        var waited: Int32 = 0
        while waited < patienceMilliseconds {
            if cancel.withLock({ $0 }) { return false }
            var about = pollfd(fd: file, events: Int16(POLLIN), revents: 0)
            if poll(&about, 1, 200) > 0 { return true }
            waited += 200
        }
        return false
    }

    func receive(
        _ digest: String, size: Int64, from offset: Int64, _ listener: Int32, _ socketPath: String,
        _ cancel: Guarded<Bool>
    ) -> Outcome {
        defer {
            close(listener)
            unlink(socketPath)
        }
        var at = offset
        if at < size {
            let file = openToWrite(partPath(digest))
            guard file >= 0 else { return .short("\(Failure.system("write to \(partPath(digest))"))") }
            defer { close(file) }
            guard ImageFiles.isReady(listener, cancel) else { return .short("nobody sent anything in time") }
            let socket = accept(listener, nil, nil)
            guard socket >= 0 else { return .short("\(Failure.system("accept a connection"))") }
            defer { close(socket) }
            var piece = [UInt8](repeating: 0, count: ImageFiles.pieceBytes)
            while at < size {
                guard ImageFiles.isReady(socket, cancel) else { return .short("it broke off after \(at) bytes") }
                let count = read(socket, &piece, piece.count)
                if count < 0 && (errno == EINTR || errno == EAGAIN) { continue }
                if count <= 0 { return .short("it broke off after \(at) bytes") }
                let taken = min(count, Int(size - at))
                let isWritten = piece.withUnsafeBytes {
                    ImageFiles.write(file, UnsafeRawBufferPointer(rebasing: $0[..<taken]), at: at)
                }
                guard isWritten else { return .short("\(Failure.system("write to \(partPath(digest))"))") }
                at += Int64(taken)
            }
        }
        return finish(digest, partPath(digest))
    }

    /// Says what went wrong.
    func send(_ digest: String, from offset: Int64, _ socketPath: String) -> String? {
        let file = open(path(digest), O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return "\(Failure.system("read \(path(digest))"))" }
        defer { close(file) }
        let socket: Int32
        do throws(SystemError) {
            socket = try Socket.connected(toPath: socketPath).release()
        } catch {
            return "\(error)"
        }
        defer { close(socket) }
        // Without waiting it would be asked for ever.
        _ = fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) & ~O_NONBLOCK)
        var at = off_t(offset)
        var piece = [UInt8](repeating: 0, count: ImageFiles.pieceBytes)
        while true {
            let count = pread(file, &piece, piece.count, at)
            if count < 0 && errno == EINTR { continue }
            if count < 0 { return "\(Failure.system("read \(path(digest))"))" }
            if count == 0 { return nil }
            var done = 0
            while done < count {
                let sent = piece.withUnsafeBytes {
                    Glibc.send(socket, $0.baseAddress?.advanced(by: done), count - done, Int32(MSG_NOSIGNAL))
                }
                if sent < 0 && errno == EINTR { continue }
                if sent <= 0 { return "the connection ended" }
                done += sent
            }
            at += count
        }
    }
}
