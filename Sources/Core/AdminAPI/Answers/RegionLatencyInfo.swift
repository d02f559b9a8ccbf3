internal import FleetModel

/// The round trip from one region to another, as it counts where cells are chosen, and where that is from.
package struct RegionLatencyInfo: Shaped {
    package var region: String
    package var micros: UInt64
    /// 0 where nothing was.
    package var setMicros: UInt64
    package var measuredMicros: UInt64
    /// Who measured it, and when that was told, in seconds since 1970.
    package var by: String
    package var at: Int64

    package init(
        region: String, micros: UInt64, setMicros: UInt64 = 0, measuredMicros: UInt64 = 0, by: String = "",
        at: Int64 = 0
    ) {
        self.region = region
        self.micros = micros
        self.setMicros = setMicros
        self.measuredMicros = measuredMicros
        self.by = by
        self.at = at
    }

    package static let shape = Shape(
        "RegionLatency",
        [
            Field("region", .string, "the other region"),
            Field(
                "micros", .integer, "the round trip that counts, in microseconds: the one that is set, or else measured"
            ),
            Field("setMicros", .integer, "what an operator set; 0 for nothing"),
            Field("measuredMicros", .integer, "what was measured last; 0 for nothing"),
            Field("by", .string, "the node that measured it; empty for nobody"),
            Field("at", .integer, "when that was told, in seconds since 1970; 0 for never"),
        ])

    package var members: [JSONMember] {
        [
            JSONMember("region", region), JSONMember("micros", micros), JSONMember("setMicros", setMicros),
            JSONMember("measuredMicros", measuredMicros), JSONMember("by", by), JSONMember("at", at),
        ]
    }

    package init(_ object: ShapedObject) throws(Problem) {
        self.init(
            region: object.text("region"), micros: object.unsigned("micros"), setMicros: object.unsigned("setMicros"),
            measuredMicros: object.unsigned("measuredMicros"), by: object.text("by"), at: object.integer("at"))
    }
}

/// `PUT /v1/regions/{region}/latency`.
package struct RegionLatencyWish: Shaped {
    package var to: String
    /// 0: as it is measured.
    package var micros: UInt64
    package init(to: String, micros: UInt64) {
        self.to = to
        self.micros = micros
    }

    package static let shape = Shape(
        "RegionLatencyWish",
        [
            Field("to", .string, "the other region"),
            Field(
                "micros", .range(0, Int64(RegionRoundTrip.microsMax)),
                "the round trip between the two in microseconds; 0: as it is measured"),
        ])
    package var members: [JSONMember] { [JSONMember("to", to), JSONMember("micros", micros)] }
    package init(_ object: ShapedObject) throws(Problem) {
        self.init(to: object.text("to"), micros: object.unsigned("micros"))
    }
}
