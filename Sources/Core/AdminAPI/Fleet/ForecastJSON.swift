package import FleetModel

/// What a live migration would take under one intent.
package struct MoveForecastInfo: Shaped {
    package var intent: String
    package var chance: String
    package var millis: Int64
    package var stopMillis: Int64
    package var reasons: [String]

    package init(_ forecast: MoveForecast) {
        intent = forecast.intent.word
        chance = forecast.chance.rawValue
        millis = forecast.milliseconds
        stopMillis = forecast.stopMilliseconds
        reasons = forecast.reasons
    }

    package static let shape = Shape(
        "MoveForecast",
        [
            Field("intent", .choice(FleetWords.intent.all), "how it would be moved"),
            Field(
                "chance", .choice(MoveForecast.Chance.allCases.map(\.rawValue)),
                "that it comes to an end: good, fair, poor or none"),
            Field("millis", .integer, "how long it would take, or until it would be given up"),
            Field("stopMillis", .integer, "for how long the guest would stand still"),
            Field("reasons", .strings, "what that follows from, and what would help"),
        ])
    package var members: [JSONMember] {
        var members = [
            JSONMember("intent", intent), JSONMember("chance", chance), JSONMember("millis", millis),
            JSONMember("stopMillis", stopMillis),
        ]
        members.append(JSONMember("reasons", .array(reasons.map { .string($0) })))
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        intent = object.text("intent")
        chance = object.text("chance")
        millis = object.integer("millis")
        stopMillis = object.integer("stopMillis")
        reasons = object.strings("reasons")
    }

    /// In one sentence, for people.
    package var text: String {
        let end =
            switch MoveForecast.Chance(rawValue: chance) {
            case .good?: "it comes to an end in about \(MoveForecast.text(millis))"
            case .fair?: "it should come to an end, in about \(MoveForecast.text(millis))"
            case .poor?: "it may come to no end, and would be given up after about \(MoveForecast.text(millis))"
            default: "it comes to no end, and would be given up after about \(MoveForecast.text(millis))"
            }
        let stop = stopMillis > 0 ? ", with a stop of about \(MoveForecast.text(stopMillis))" : ""
        return "forecast, \(intent): \(end)\(stop)"
    }
}

/// `GET /v1/vms/{vm}/forecast`: its host measured for a second.
package struct MoveOutlook: Shaped {
    package var host: String
    package var memoryMiB: Int64
    /// Nil where it could not be measured.
    package var dirtyMiBps: Int64?
    package var bandwidthMiBps: Int64
    package var movesNow: Int64
    package var forecasts: [MoveForecastInfo]

    package init(_ probe: MoveProbe, diskMiB: Int64, host: String) {
        self.host = host
        memoryMiB = probe.memoryMiB
        dirtyMiBps = probe.dirtyMiBps
        bandwidthMiBps = probe.bytesPerSecond >> 20
        movesNow = Int64(probe.others)
        forecasts = MoveIntent.allCases.map { MoveForecastInfo(MoveForecast(probe, diskMiB: diskMiB, intent: $0)) }
    }

    package static let shape = Shape(
        "MoveOutlook",
        [
            Field("host", .string, "the host that runs it, and measured"),
            Field("memoryMiB", .integer, "memory that it uses, or that it takes of its host"),
            Field(
                "dirtyMiBps", .integer, isRequired: false,
                "different memory that its guest wrote to in a second; absent where that could not be measured"),
            Field("bandwidthMiBps", .integer, "what moves from its host may take together"),
            Field("movesNow", .integer, "moves from its host that share that now"),
            Field("forecasts", .objects(MoveForecastInfo.shape), "of each intent"),
        ])
    package var members: [JSONMember] {
        var members = [JSONMember("host", host), JSONMember("memoryMiB", memoryMiB)]
        if let dirtyMiBps { members.append(JSONMember("dirtyMiBps", dirtyMiBps)) }
        members += [
            JSONMember("bandwidthMiBps", bandwidthMiBps), JSONMember("movesNow", movesNow),
            JSONMember("forecasts", objects: forecasts),
        ]
        return members
    }
    package init(_ object: ShapedObject) throws(Problem) {
        host = object.text("host")
        memoryMiB = object.integer("memoryMiB")
        dirtyMiBps = object.optionalInteger("dirtyMiBps")
        bandwidthMiBps = object.integer("bandwidthMiBps")
        movesNow = object.integer("movesNow")
        forecasts = try object.objects("forecasts")
    }
}
