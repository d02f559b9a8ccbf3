import AgentConfig
import ClusterBase
import Glibc
import Reactor

/// One line per event on standard error, as text for people or as JSON for programs. Whoever logs leaves secrets out.
final class AgentLog {
    let level: LogLevel
    let format: LogFormat
    private var line: [UInt8] = []
    /// Lines that nobody could be given since the last that was written.
    private var linesLost = 0

    /// Longer texts are cut, so that a line fits into what a pipe takes at once.
    private static let textMax = 800

    init(level: LogLevel, format: LogFormat) {
        self.level = level
        self.format = format
    }

    func error(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.error, message, fields) }
    func warning(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.warning, message, fields) }
    func info(_ message: String, _ fields: KeyValuePairs<String, String> = [:]) { write(.info, message, fields) }
    func debug(_ message: @autoclosure () -> String, _ fields: KeyValuePairs<String, String> = [:]) {
        if LogLevel.debug <= level { write(.debug, message(), fields) }
    }

    private func write(_ event: LogLevel, _ message: String, _ fields: KeyValuePairs<String, String>) {
        guard event <= level else { return }
        if linesLost > 0 && canWrite {
            let lost = linesLost
            linesLost = 0
            put(.warning, "nobody read this log for a while", ["lines-lost": "\(lost)"])
        }
        put(event, message, fields)
    }

    private func put(_ event: LogLevel, _ message: String, _ fields: KeyValuePairs<String, String>) {
        line.removeAll(keepingCapacity: true)
        let time = AgentLog.text(wallNanoseconds: SystemClock.wallNanoseconds)
        switch format {
        case .text:
            append("\(time) \(event.rawValue.uppercased()) \(AgentLog.plain(message))")
            for (key, value) in fields { append(" \(key)=\(AgentLog.plain(value))") }
        case .json:
            append("{\"time\":\"\(time)\",\"level\":\"\(event.rawValue)\",\"message\":")
            quote(message)
            for (key, value) in fields {
                append(",\"\(key)\":")
                quote(value)
            }
            append("}")
        }
        line.append(10)
        if canWrite {
            _ = line.withUnsafeBytes { Glibc.write(2, $0.baseAddress, $0.count) }
        } else {
            linesLost += 1
        }
    }

    /// Whether a line can be written at once: a log that nobody reads must not stop a node. What poll calls writable takes a
    /// page without blocking, a pipe and a socket alike.
    private var canWrite: Bool {
        var wanted = pollfd(fd: 2, events: Int16(POLLOUT), revents: 0)
        return poll(&wanted, 1, 0) == 1
    }

    private func append(_ text: String) { line.append(contentsOf: text.utf8) }

    /// What others call themselves must not begin a line of its own.
    private static func plain(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.prefix(textMax).map { $0.value < 32 ? " " : $0 }))
    }

    private func quote(_ text: String) {
        line.append(UInt8(ascii: "\""))
        for byte in String(text.unicodeScalars.prefix(AgentLog.textMax)).utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): line += [UInt8(ascii: "\\"), byte]
            case ..<32: append("\\u00" + (byte < 16 ? "0" : "") + String(byte, radix: 16))
            default: line.append(byte)
            }
        }
        line.append(UInt8(ascii: "\""))
    }

    /// RFC 3339, in UTC, with milliseconds.
    static func text(wallNanoseconds: Int64) -> String {
        var seconds = time_t(wallNanoseconds / 1_000_000_000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func two(_ number: Int32) -> String { (number < 10 ? "0" : "") + String(number) }
        let milliseconds = String(1_000 + wallNanoseconds / 1_000_000 % 1_000).dropFirst()
        return "\(parts.tm_year + 1_900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
            + "T\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(milliseconds)Z"
    }
}
