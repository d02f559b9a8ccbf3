import AdminAPI
import BackupFormat
import ClusterBase
import CommandSyntax
import FleetModel
import Glibc
import RaftCore
import Schema
import TLSSession
import Terminal

/// A sealed file of backup records, and the commands that need nothing else.
enum BackupFile {
    static let readBytes = 1 << 20

    static func run(_ invocation: Invocation) -> ExitCode {
        do {
            if invocation.path == "backup key" { return try makeKey(invocation.argument("FILE") ?? "") }
            return try inspect(invocation)
        } catch {
            return ClientCommands.code(ofFailure: error)
        }
    }

    private static func makeKey(_ path: String) throws -> ExitCode {
        if access(path, F_OK) == 0 {
            throw AgentFailure("\(path) is there already, and may be the only key of some backup; name another file.")
        }
        try NodeFiles.write(path, Array(SecretKey.make().text.utf8), isSecret: true)
        Console.complain("\(path) seals backups, and nothing else opens them: keep a copy where the cluster is not.")
        return .success
    }

    /// What `--key-file` or `--passphrase-file` names.
    static func secret(_ invocation: Invocation) throws -> StreamSecret {
        let keyFile = invocation.text("key-file")
        let wordFile = invocation.text("passphrase-file")
        guard (keyFile == nil) != (wordFile == nil) else {
            throw UsageMistake(
                "A backup is always sealed: name either --key-file FILE, which `muster backup key FILE` makes, or "
                    + "--passphrase-file FILE.")
        }
        let file = keyFile ?? wordFile ?? ""
        let text = String(decoding: try NodeFiles.read(file), as: UTF8.self)
        if keyFile == nil { return .passphrase(text.hasSuffix("\n") ? String(text.dropLast()) : text) }
        do throws(TLSFailure) {
            return .key(try SecretKey(text: text))
        } catch {
            throw AgentFailure("\(file): \(error.message)")
        }
    }

    // MARK: Reading

    /// Reads a backup to its end, hands on what its records want done, and returns what was found.
    static func scan(
        _ path: String, _ secret: StreamSecret, _ onStep: (BackupScan.Step) throws -> Void
    ) throws -> BackupScan {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw NodeFiles.failure("read \(path)") }
        defer { close(file) }
        var opener = StreamOpener(secret)
        var frames = BackupFrames()
        var scan = BackupScan()
        var sealed = [UInt8](repeating: 0, count: readBytes)
        var plain: [UInt8] = []
        func takeRecords() throws {
            frames.append(plain)
            plain.removeAll(keepingCapacity: true)
            while let (body, _) = try frames.next() { try onStep(scan.take(body)) }
        }
        do {
            while true {
                let count = read(file, &sealed, sealed.count)
                if count < 0 { throw NodeFiles.failure("read \(path)") }
                if count == 0 { break }
                try sealed[..<count].withUnsafeBytes { bytes in
                    try opener.append(bytes, into: &plain)
                }
                try takeRecords()
            }
            try opener.finish(into: &plain)
            try takeRecords()
            try scan.requireComplete()
        } catch let failure as TLSFailure {
            throw AgentFailure("\(path) can't be opened. \(sentence(failure, isEmpty: scan.head == nil))")
        } catch let failure as BackupFailure {
            throw AgentFailure("\(path) can't be used. \(failure)")
        }
        return scan
    }

    private static func sentence(_ failure: TLSFailure, isEmpty: Bool) -> String {
        guard failure.code == .notAuthentic else { return failure.message }
        return isEmpty
            ? "The key is another one than the one that sealed it, or the file is damaged or was cut off."
            : "It is damaged or was cut off; a backup is used as a whole or not at all, so use another one."
    }

    private static func inspect(_ invocation: Invocation) throws -> ExitCode {
        let scan = try scan(invocation.argument("FILE") ?? "", secret(invocation)) { _ in }
        return ClientCommands.present(summary(scan).bytes, invocation)
    }

    /// What a backup holds, as it is printed.
    static func summary(_ scan: BackupScan) -> JSONValue {
        let head = scan.head ?? BackupRecord.Head()
        func number(_ name: String, _ value: UInt64) -> JSONMember {
            JSONMember(name, .integer(Int64(clamping: value)))
        }
        func text(_ name: String, _ value: String) -> JSONMember { JSONMember(name, .string(value)) }
        let groups = scan.groups.map { group in
            JSONValue.object([
                number("group", group.group.rawValue), text("name", group.name),
                number("index", group.base.index.rawValue), number("keys", group.keyCount),
                number("bytes", group.byteCount),
            ])
        }
        return .object([
            text("cluster", Agent.text(of: head.clusterID)), text("name", head.clusterName),
            number("taken", head.takenAt / 1_000), text("version", head.programVersion),
            number("level", UInt64(head.level)), JSONMember("groups", .array(groups)),
        ])
    }

    // MARK: Writing

    /// Writes a new file that is there as a whole or not at all.
    final class Writer {
        private let path: String
        private let file: Int32
        private var sealer: StreamSealer?
        private var pending: [UInt8] = []
        private var isDone = false
        private(set) var byteCount = 0

        init(_ path: String, _ secret: StreamSecret) throws {
            if access(path, F_OK) == 0 { throw AgentFailure("\(path) is there already; name another file.") }
            sealer = try StreamSealer(secret)
            self.path = path
            file = open(path + ".partial", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
            if file < 0 { throw NodeFiles.failure("make \(path).partial") }
        }

        deinit {
            close(file)
            if !isDone { unlink(path + ".partial") }
        }

        func append(_ bytes: [UInt8]) throws {
            _ = try bytes.withUnsafeBytes { buffer in try sealer?.append(buffer, into: &pending) }
            if pending.count >= BackupFile.readBytes { try flush() }
        }

        func finish() throws {
            var rest: [UInt8] = []
            guard let sealer = sealer.take() else { preconditionFailure("\(path) was finished twice") }
            try sealer.finish(into: &rest)
            pending += rest
            try flush()
            guard fsync(file) == 0 else { throw NodeFiles.failure("write \(path)") }
            guard rename(path + ".partial", path) == 0 else { throw NodeFiles.failure("name \(path)") }
            isDone = true
            let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
            let handle = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            if handle >= 0 {
                fsync(handle)
                close(handle)
            }
        }

        private func flush() throws {
            var at = 0
            while at < pending.count {
                let count = pending[at...].withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
                if count < 0 && errno == EINTR { continue }
                if count <= 0 { throw NodeFiles.failure("write \(path).partial") }
                at += count
            }
            byteCount += pending.count
            pending.removeAll(keepingCapacity: true)
        }
    }
}
