internal import ClusterBase
internal import FleetModel

/// Writes answers as HTTP/1.1 behind whatever a buffer holds. An answer to a write allocates nothing but what the buffer
/// grows by.
package enum ResponseWriter {
    /// How the answer is to be framed.
    package struct Frame: Hashable, Sendable {
        /// The request was HEAD: the header only.
        package var isHead = false
        /// The client speaks HTTP/1.0: a stream ends with the connection.
        package var isOldVersion = false
        /// Say that the connection ends.
        package var closes = false
        package init(isHead: Bool = false, isOldVersion: Bool = false, closes: Bool = false) {
            self.isHead = isHead
            self.isOldVersion = isOldVersion
            self.closes = closes
        }
    }

    /// `date` is the value of the Date field; empty leaves it out.
    package static func write(
        _ response: AdminResponse, _ frame: Frame, date: [UInt8], into out: inout [UInt8]
    ) {
        if response.status == 200 {
            out.append(contentsOf: date.isEmpty ? Text.ok : Text.okDate)
        } else {
            out.append(contentsOf: Text.version)
            out.append(decimal: UInt64(response.status))
            out.append(UInt8(ascii: " "))
            out.append(text: HTTPSyntax.reason(response.status))
            if !date.isEmpty { out.append(contentsOf: Text.date) }
        }
        if !date.isEmpty { out.append(contentsOf: date) }
        if response.media == .json {
            out.append(contentsOf: response.index == nil ? Text.json : Text.jsonIndex)
        } else {
            if response.media != .none {
                out.append(contentsOf: Text.contentType)
                out.append(text: response.media.name)
            }
            if response.index != nil { out.append(contentsOf: Text.index) }
        }
        if let index = response.index { out.append(decimal: index.rawValue) }
        if let revision = response.revision {
            out.append(contentsOf: Text.revision)
            append(revision, &out)
        }
        if response.version > 0 {
            out.append(contentsOf: Text.keyVersion)
            out.append(decimal: response.version)
        }
        rareFields(response, &out)
        if frame.closes || response.closes || (frame.isOldVersion && response.isStream) {
            out.append(contentsOf: Text.close)
        }
        body(response, frame, &out)
    }

    private static func rareFields(_ response: AdminResponse, _ out: inout [UInt8]) {
        if response.status == 200 && response.age == nil && response.leader.isEmpty { return }
        if !response.leader.isEmpty { out.append(text: "\r\nmuster-leader: \(response.leader)") }
        if let age = response.age { out.append(text: "\r\nmuster-age: \(age.milliseconds)ms") }
        if response.retryAfterSeconds > 0 { out.append(text: "\r\nretry-after: \(response.retryAfterSeconds)") }
        if response.status == 401 { out.append(text: "\r\nwww-authenticate: Bearer realm=\"muster\"") }
        if !response.allow.isEmpty {
            out.append(text: "\r\nallow: " + response.allow.map(\.name).joined(separator: ", "))
        }
    }

    private static func body(_ response: AdminResponse, _ frame: Frame, _ out: inout [UInt8]) {
        switch response.body {
        case .bytes(let bytes):
            out.append(contentsOf: Text.length)
            out.append(decimal: UInt64(bytes.count))
            out.append(contentsOf: Text.endOfHead)
            if !frame.isHead { out.append(contentsOf: bytes) }
        case .written(let revision, let version):
            let count =
                Text.writtenBegin.count + [UInt8].digits(revision.index.rawValue) + 1
                + [UInt8].digits(UInt64(revision.slot)) + Text.writtenMiddle.count + [UInt8].digits(version) + 1
            out.append(contentsOf: Text.length)
            out.append(decimal: UInt64(count))
            if frame.isHead { return out.append(contentsOf: Text.endOfHead) }
            out.append(contentsOf: Text.endOfHeadWritten)
            append(revision, &out)
            out.append(contentsOf: Text.writtenMiddle)
            out.append(decimal: version)
            out.append(UInt8(ascii: "}"))
        case .stream:
            if !frame.isOldVersion { out.append(contentsOf: Text.chunked) }
            out.append(contentsOf: Text.endOfHead)
        }
    }

    /// One piece of a stream; an empty one writes nothing, since it would end the stream.
    package static func writePiece(_ bytes: [UInt8], _ frame: Frame, into out: inout [UInt8]) {
        if bytes.isEmpty || frame.isHead { return }
        if frame.isOldVersion {
            out.append(contentsOf: bytes)
            return
        }
        out.append(text: String(bytes.count, radix: 16))
        out.append(contentsOf: Text.line)
        out.append(contentsOf: bytes)
        out.append(contentsOf: Text.line)
    }

    /// The proper end of a stream. One that breaks off is told by the end of the connection without it.
    package static func writeEnd(_ frame: Frame, into out: inout [UInt8]) {
        if !frame.isOldVersion && !frame.isHead { out.append(contentsOf: Text.lastChunk) }
    }

    /// The interim answer to a client that waits with its body.
    package static func writeContinue(into out: inout [UInt8]) { out.append(contentsOf: Text.proceed) }

    /// A revision as users write it: `index.slot`.
    static func append(_ revision: Revision, _ out: inout [UInt8]) {
        out.append(decimal: revision.index.rawValue)
        out.append(UInt8(ascii: "."))
        out.append(decimal: UInt64(revision.slot))
    }

    private enum Text {
        static let version = Array("HTTP/1.1 ".utf8)
        static let ok = Array("HTTP/1.1 200 OK".utf8)
        static let date = Array("\r\ndate: ".utf8)
        static let contentType = Array("\r\ncontent-type: ".utf8)
        static let json = Array("\r\ncontent-type: application/json".utf8)
        static let index = Array("\r\nmuster-index: ".utf8)
        static let revision = Array("\r\nmuster-revision: ".utf8)
        static let keyVersion = Array("\r\nmuster-version: ".utf8)
        static let close = Array("\r\nconnection: close".utf8)
        static let length = Array("\r\ncontent-length: ".utf8)
        static let chunked = Array("\r\ntransfer-encoding: chunked".utf8)
        static let endOfHead = Array("\r\n\r\n".utf8)
        static let line = Array("\r\n".utf8)
        static let lastChunk = Array("0\r\n\r\n".utf8)
        static let proceed = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)
        static let okDate = ok + date
        static let jsonIndex = json + index
        static let endOfHeadWritten = endOfHead + writtenBegin
        static let writtenBegin = Array("{\"revision\":\"".utf8)
        static let writtenMiddle = Array("\",\"version\":".utf8)
    }
}

/// A day of the calendar that is in use everywhere, in UTC.
package struct CalendarDate: Hashable, Sendable {
    package var year: Int64
    package var month: Int64
    package var day: Int64

    package init(daysSince1970 days: Int64) {
        // Days since 0000-03-01, in eras of 400 years, so that the leap day is the last of its year.
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }

    /// `2026-11-23T23:34:41Z`; of times before 1970 their beginning.
    package static func text(unixSeconds: Int64) -> String {
        let seconds = max(0, unixSeconds)
        let date = CalendarDate(daysSince1970: seconds / 86_400)
        let second = seconds % 86_400
        return "\(date.year)-\(two(date.month))-\(two(date.day))T"
            + "\(two(second / 3_600)):\(two(second / 60 % 60)):\(two(second % 60))Z"
    }

    fileprivate static func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }
}

/// The value of a Date field.
package enum HTTPDate {
    /// Seconds since 1970 as RFC 9110 5.6.7 wants them.
    package static func bytes(unixSeconds: Int64) -> [UInt8] {
        let days = unixSeconds >= 0 ? unixSeconds / 86_400 : 0
        let second = unixSeconds >= 0 ? unixSeconds % 86_400 : 0
        let date = CalendarDate(daysSince1970: days)
        let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        func two(_ number: Int64) -> String { CalendarDate.two(number) }
        let text = "\(weekdays[Int(days % 7)]), \(two(date.day)) \(months[Int(date.month) - 1]) \(date.year)"
        return Array("\(text) \(two(second / 3_600)):\(two(second / 60 % 60)):\(two(second % 60)) GMT".utf8)
    }
}
