import CommandSyntax
import Testing

@Suite struct ListingTests {
    static var listing: Listing {
        var listing = Listing([
            .init("name"), .init("log_index", isRightAligned: true), .init("voter"), .init("labels", title: "LABELS"),
        ])
        listing.add([.text("alpha"), .integer(7), .boolean(true), .texts(["a=1", "b"])])
        listing.add([.text("b"), .integer(12_345), .boolean(false), .texts([])])
        listing.add([.text(""), .none, .none, .text("x\u{1B}[31m\n\"")])
        return listing
    }

    @Test func `a table lines up and escapes what could move the cursor`() {
        #expect(
            Self.listing.table() == """
                NAME   LOG INDEX  VOTER  LABELS
                alpha          7  yes    a=1,b
                b          12345  no     -
                -              -  -      x\\u{1b}[31m\\u{a}"

                """)
    }

    @Test func `JSON says the same`() {
        #expect(
            Self.listing.json() == """
                [
                  {"name": "alpha", "log_index": 7, "voter": true, "labels": ["a=1","b"]},
                  {"name": "b", "log_index": 12345, "voter": false, "labels": []},
                  {"name": "", "log_index": null, "voter": null, "labels": "x\\u001b[31m\\n\\""}
                ]

                """)
        #expect(Listing([.init("a")]).json() == "[]\n")
        #expect(Listing([.init("a")]).table() == "A\n")
    }

    @Test(arguments: [
        ("isReady", "READY"), ("adminAddress", "ADMIN ADDRESS"), ("log_index", "LOG INDEX"), ("issued", "ISSUED"),
    ])
    func `a title is the words of its key`(key: String, title: String) {
        #expect(Listing.Column(key).title == title)
    }

    @Test func `a record has its titles down the side`() {
        #expect(Self.listing.record() == "NAME:       alpha\nLOG INDEX:  7\nVOTER:      yes\nLABELS:     a=1,b\n")
        #expect(
            Self.listing.recordJSON()
                == "{\"name\": \"alpha\", \"log_index\": 7, \"voter\": true, \"labels\": [\"a=1\",\"b\"]}\n")
    }
}
