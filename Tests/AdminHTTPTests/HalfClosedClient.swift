import Foundation
import Reactor
import Synchronization
import TLSSession
import Testing

/// A client on a thread of its own that sends a request and its end at once, and then reads until the server's end.
final class HalfClosedClient: Sendable {
    private let result = Mutex<String?>(nil)

    /// Everything that came, when the server has ended the connection.
    var answer: String? { result.withLock { $0 } }

    init(_ server: SocketAddress, _ request: String) throws {
        let context = try Keys.client(.operator(cluster: "test", name: "ann"))
        let port = try #require(UInt16("\(server)".split(separator: ":").last ?? ""))
        Thread.detachNewThread { [self] in
            let text = (try? HalfClosedClient.talk(port, context, request)) ?? "failed"
            result.withLock { $0 = text }
        }
    }

    private static func talk(_ port: UInt16, _ context: TLSContext, _ request: String) throws -> String {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else { return "no connection" }
        let stream = try TLSStream(context, serverName: "127.0.0.1")
        func send() { stream.withOutput { write(descriptor, $0.baseAddress, $0.count) } }
        var part = [UInt8](repeating: 0, count: 1 << 14)
        send()
        while !stream.isEstablished {
            let count = read(descriptor, &part, part.count)
            if count <= 0 { return "no handshake" }
            try part[..<count].withUnsafeBytes { try stream.receive($0) }
            send()
        }
        try Array(request.utf8).withUnsafeBytes { try stream.write($0) }
        stream.close()
        send()
        shutdown(descriptor, Int32(SHUT_WR))
        var text = ""
        while true {
            let count = read(descriptor, &part, part.count)
            if count <= 0 { return text }
            try part[..<count].withUnsafeBytes { try stream.receive($0) }
            var plain = [UInt8](repeating: 0, count: 1 << 14)
            while true {
                let found = try plain.withUnsafeMutableBytes { try stream.read(into: $0) }
                if found == 0 { break }
                text += String(decoding: plain[..<found], as: UTF8.self)
            }
        }
    }
}
