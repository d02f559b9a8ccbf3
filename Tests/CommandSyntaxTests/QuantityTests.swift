import ClusterBase
import CommandSyntax
import Testing

@Suite struct QuantityTests {
    @Test(
        arguments: [
            ("3h", 10_800_000_000_000), ("90s", 90_000_000_000), ("1h30m", 5_400_000_000_000), ("250ms", 250_000_000),
            ("15us", 15_000), ("1d", 86_400_000_000_000), ("0", 0), ("0s", 0), ("1_000ms", 1_000_000_000),
            ("1m1ms", 60_001_000_000),
        ] as [(String, Int64)])
    func `times are read with their units`(text: String, nanoseconds: Int64) {
        let read = Quantity.duration(text)
        #expect(read == Nanoseconds(nanoseconds))
        #expect(read.flatMap { Quantity.duration(Quantity.text($0)) } == read)
    }

    @Test(arguments: [
        "", "3", "h", "3 h", "-3h", "3h3h", "3m2h", "3.5h", "3H", "_3h", "3_h", "99999999999999999999h", "9223372036d",
        "1h ",
    ])
    func `what is no time is refused`(text: String) { #expect(Quantity.duration(text) == nil) }

    @Test(arguments: [
        ("64MiB", 64 << 20), ("4096B", 4096), ("500MB", 500_000_000), ("1TiB", 1 << 40), ("0", 0), ("3kB", 3_000),
    ])
    func `sizes are read with their units`(text: String, bytes: Int) {
        #expect(Quantity.size(text) == bytes)
        #expect(Quantity.size(Quantity.text(bytes: bytes)) == bytes)
    }

    @Test(arguments: ["", "64", "MiB", "64mib", "64 MiB", "-1B", "9999999TiB", "1.5GiB"])
    func `what is no size is refused`(text: String) { #expect(Quantity.size(text) == nil) }

    @Test func `only a near word is suggested`() {
        let words = ["status", "token", "node", "init"]
        #expect(NearestWord.of("tokne", in: words) == "token")
        #expect(NearestWord.of("stats", in: words) == "status")
        #expect(NearestWord.of("nod", in: words) == "node")
        #expect(NearestWord.of("leader", in: words) == nil)
        #expect(NearestWord.of("", in: words) == nil)
        #expect(NearestWord.of(String(repeating: "a", count: 10_000), in: words) == nil)
    }
}
