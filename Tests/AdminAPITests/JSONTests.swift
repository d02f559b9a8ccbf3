import ClusterBase
import FleetModel
import Testing

@testable import AdminAPI

private func parse(_ text: String) throws(JSONFault) -> JSONValue { try JSONParser.parse(Array(text.utf8)[...]) }

private func randomValue(_ random: inout PRNG, _ depth: Int) -> JSONValue {
    switch random.below(depth > 4 ? 6 : 8) {
    case 0: return .null
    case 1: return .bool(random.next() % 2 == 0)
    case 2: return .integer(Int64(bitPattern: random.next()))
    case 3: return .number(Double(Int64(bitPattern: random.next()) >> 20) / 1024 + 0.5)
    case 4, 5:
        let scalars = ["a", "\"", "\\", "\n", "\u{1}", "é", "😀", "/", "\u{7F}", ""]
        return .string((0..<random.below(6)).map { _ in scalars[random.below(scalars.count)] }.joined())
    case 6: return .array((0..<random.below(4)).map { _ in randomValue(&random, depth + 1) })
    default: return .object((0..<random.below(4)).map { JSONMember("m\($0)", randomValue(&random, depth + 1)) })
    }
}

@Suite struct JSONTests {
    @Test func `what is written is read back`() throws {
        var random = PRNG(seed: 3)
        for _ in 0..<2_000 {
            let value = randomValue(&random, 0)
            #expect(try JSONParser.parse(value.bytes[...]) == value)
        }
    }

    @Test(
        arguments: [
            ("0", .integer(0)), ("-0", .integer(0)), (" 12 ", .integer(12)), ("1.5e2", .number(150)),
            ("1E-2", .number(0.01)),
            ("9223372036854775807", .integer(.max)), ("9223372036854775808", .number(9_223_372_036_854_775_808)),
            ("\"\\u00e9\\ud83d\\ude00\\/\\b\"", .string("é😀/\u{8}")), ("[]", .array([])), ("{ }", .object([])),
            ("[1,[true,null]]", .array([.integer(1), .array([.bool(true), .null])])),
            ("{\"a\":{\"b\":\"\"}}", .object([JSONMember("a", .object([JSONMember("b", .string(""))]))])),
        ] as [(String, JSONValue)])
    func `what the standard allows is read`(_ text: String, _ value: JSONValue) throws {
        #expect(try parse(text) == value)
    }

    @Test(
        arguments: [
            ("", .ended), ("{", .ended), ("[1", .ended), ("\"a", .ended), ("[1,]", .unexpected(93)),
            ("{\"a\":1,}", .unexpected(125)),
            ("{a:1}", .unexpected(97)), ("{\"a\" 1}", .unexpected(49)), ("tru", .ended), ("trux", .unexpected(120)),
            ("01", .numberMalformed), ("-", .numberMalformed), ("1.", .numberMalformed), (".5", .unexpected(46)),
            ("1e", .numberMalformed), ("+1", .unexpected(43)), ("1e999", .numberTooLarge), ("NaN", .unexpected(78)),
            ("\"\n\"", .stringControl), ("\"\\x\"", .stringEscape), ("\"\\ud800\"", .stringEscape),
            ("\"\\udc00\"", .stringEscape), ("\"\\ud800\\u0041\"", .stringEscape), ("\"\\u12\"", .stringEscape),
            ("{\"a\":1,\"a\":2}", .memberRepeated("a")), ("1 2", .trailing), ("{}x", .trailing),
            ("'a'", .unexpected(39)),
        ] as [(String, JSONFault.Reason)])
    func `what it does not allow is refused with its reason`(_ text: String, _ reason: JSONFault.Reason) {
        #expect(throws: (any Error).self) { try parse(text) }
        do throws(JSONFault) { _ = try parse(text) } catch { #expect(error.reason == reason, "\(text)") }
    }

    @Test func `a string that is not UTF-8 is refused`() {
        let bytes: [UInt8] = [34, 0xC3, 0x28, 34]
        do throws(JSONFault) {
            _ = try JSONParser.parse(bytes[...])
            Issue.record("it was accepted")
        } catch { #expect(error.reason == .stringEncoding) }
    }

    @Test func `depth, size and count are bounded`() {
        var limits = AdminLimits()
        limits.jsonDepthMax = 3
        limits.jsonValuesMax = 5
        limits.jsonBodyBytesMax = 20
        let cases: [(String, JSONFault.Reason?)] = [
            ("[[[1]]]", nil), ("[[[[]]]]", .tooDeep(3)), ("[1,2,3,4]", nil), ("[1,2,3,4,5]", .tooManyValues(5)),
            ("\"123456789012345678\"", nil), ("\"1234567890123456789\"", .tooLarge(20)),
        ]
        for (text, reason) in cases {
            do throws(JSONFault) {
                _ = try JSONParser.parse(Array(text.utf8)[...], limits: limits)
                #expect(reason == nil, "\(text)")
            } catch { #expect(error.reason == reason, "\(text)") }
        }
    }

    @Test func `base64 and percent-encoding are their own inverses and refuse what they would not write`() {
        var random = PRNG(seed: 5)
        for _ in 0..<500 {
            let bytes = (0..<random.below(40)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            var standard: [UInt8] = []
            Base64.encode(bytes, into: &standard)
            var url: [UInt8] = []
            Base64.encodeForURL(bytes, into: &url)
            var percent: [UInt8] = []
            PercentCoding.encode(bytes, keepsSlashes: random.next() % 2 == 0, into: &percent)
            #expect(Base64.decode(standard) == bytes && Base64.decode(url) == bytes)
            #expect(PercentCoding.decode(percent[...]) == bytes)
            #expect(PercentCoding.decode(percent[...], plusIsSpace: true) == bytes)
        }
        for bad in ["A", "AB=", "AB", "A===", "AA==AA", "AA=A", "A B=", "AAA=="] where bad != "AB" {
            #expect(Base64.decode(bad.utf8) == nil, "\(bad)")
        }
        // The two low bits of B mean nothing.
        #expect(Base64.decode("AB".utf8) == nil && Base64.decode("AA".utf8) == [0])
        for bad in ["%", "%4", "%zz", "a%4"] { #expect(PercentCoding.decode(Array(bad.utf8)[...]) == nil) }
    }

    @Test func `metrics are families with help, type, labels and histograms`() {
        var metrics = Metrics()
        metrics.add("muster_puts_total", .counter, "Writes.", UInt64(3), [.init("space", "a\"b\\\n")])
        metrics.add("muster_puts_total", .counter, "Writes.", UInt64(4), [.init("space", "c")])
        metrics.add("muster_load", .gauge, "Load\nnow.", 0.5)
        metrics.add("muster_put_seconds", "Time.", .init(bounds: [0.001, 0.5], counts: [1, 2, 3], sum: 2.25))
        #expect(
            String(decoding: metrics.bytes, as: UTF8.self) == """
                # HELP muster_puts_total Writes.
                # TYPE muster_puts_total counter
                muster_puts_total{space="a\\"b\\\\\\n"} 3
                muster_puts_total{space="c"} 4
                # HELP muster_load Load\\nnow.
                # TYPE muster_load gauge
                muster_load 0.5
                # HELP muster_put_seconds Time.
                # TYPE muster_put_seconds histogram
                muster_put_seconds_bucket{le="0.001"} 1
                muster_put_seconds_bucket{le="0.5"} 3
                muster_put_seconds_bucket{le="+Inf"} 6
                muster_put_seconds_sum 2.25
                muster_put_seconds_count 6

                """)
    }
}
