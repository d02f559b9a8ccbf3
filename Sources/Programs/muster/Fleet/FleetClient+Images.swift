import AdminAPI
import ClusterBase
import CommandSyntax
import FleetCommands
import Glibc
import TLSSession
import Terminal

extension FleetClient {
    /// Sends what the node has not got yet, and then gives it the name.
    func addImage() throws -> ExitCode {
        let (name, path) = (word("IMAGE"), word("FILE"))
        if line.has("shared") && line.text("tenant") != nil {
            throw FleetMistake("--shared stands beside --tenant; give one of them.")
        }
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw Undone("\(path) can't be read: \(String(cString: strerror(errno)))") }
        defer { close(file) }
        var piece = [UInt8](repeating: 0, count: ImagePart.bytesMax)
        func read(at offset: Int64) throws -> ArraySlice<UInt8> {
            var count = 0
            while count < piece.count {
                let more = piece.withUnsafeMutableBytes { buffer in
                    pread(file, buffer.baseAddress?.advanced(by: count), buffer.count - count, off_t(offset) + count)
                }
                if more < 0 && errno == EINTR { continue }
                if more < 0 {
                    throw Undone("\(path) can't be read: \(String(cString: strerror(errno)))")
                }
                if more == 0 { break }
                count += more
            }
            return piece[..<count]
        }
        var hash = RunningHash()
        var size: Int64 = 0
        while true {
            let bytes = try read(at: size)
            if bytes.isEmpty { break }
            bytes.withUnsafeBytes { hash.add($0) }
            size += Int64(bytes.count)
        }
        let digest = hash.finish().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        if size == 0 { throw FleetMistake("\(path) is empty; an image has bytes.") }
        let tenant = line.has("shared") ? "" : line.text("tenant") ?? defaultTenant
        var received = try send(ImagePart(tenant: tenant, digest: digest, offset: 0, bytes: []))
        let progress = Progress(Int(size >> 20), "sent", isTerminal: Console.isTerminal)
        var shown = progress
        while received < size {
            let before = received
            received = try send(
                ImagePart(tenant: tenant, digest: digest, offset: received, bytes: Array(try read(at: received))))
            guard received > before else {
                throw Undone("the node did not take the bytes at \(before); see its log, and try again")
            }
            if let text = shown.text(done: Int(received >> 20), note: "") { Console.write(text, to: 2) }
        }
        let made = ImageCreation(name: name, tenant: tenant, digest: digest)
        return show(try post(["v1", "images"], [], .object(made.members)))
    }

    private func send(_ part: ImagePart) throws -> Int64 {
        try post(["v1", "images", "parts"], [], .object(part.members))["received"]?.integer ?? 0
    }
}
