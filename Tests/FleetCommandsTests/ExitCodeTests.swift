import AdminAPI
import CommandSyntax
import FleetModel
import Testing

@testable import FleetCommands

@Suite struct ExitCodeTests {
    private static let expected: [ExitCode: [Problem.Kind]] = [
        .usage: [.malformed, .invalid, .bodyTooLarge, .targetTooLong],
        .notFound: [.keyNotFound, .spaceNotFound, .notFound],
        .refused: [
            .unauthenticated, .forbidden, .conflict, .retryUnknown, .alreadyExists, .notPossible, .quotaExceeded,
            .generationChanged, .compacted,
        ],
        .unavailable: [.timeout, .tooManyRequests, .unavailable, .overloaded, .outcomeUnknown, .storageLow],
        .failure: [
            .routeUnknown, .methodNotAllowed, .mediaTypeUnknown, .expectationFailed, .misdirected, .headTooLarge,
            .internal, .notImplemented, .versionUnsupported,
        ],
    ]

    @Test(arguments: Problem.Kind.allCases)
    func `each answer of the cluster ends a command with exactly this code`(_ kind: Problem.Kind) {
        let found = ExitCodeTests.expected.filter { $0.value.contains(kind) }.map(\.key)
        #expect(found == [ExitCode(kind)])
    }

    @Test func `what may pass by itself never counts as refused, and what was refused as senseless is not tried again`()
    {
        for kind in Problem.Kind.allCases {
            if kind.mayPass || kind.isWorthRetrying { #expect(ExitCode(kind) == .unavailable, "\(kind)") }
            if kind.status == 400 || kind.status == 422 { #expect(ExitCode(kind) == .usage, "\(kind)") }
        }
        let setting = Problem(CellRefusal.settingOutOfRange(.splitAbove))
        #expect(ExitCode(setting.kind) == .usage)
    }

    @Test func `of several codes the gravest counts, whichever comes first`() {
        let order: [ExitCode] = [.unavailable, .failure, .refused, .notFound, .usage, .success]
        for (i, code) in order.enumerated() {
            for other in order[i...] {
                #expect(code.worse(other) == code && other.worse(code) == code, "\(code) \(other)")
            }
        }
    }

    @Test func `a mistake in words is one of usage unless it names what is not there`() {
        #expect(FleetMistake("x").code == .usage)
        #expect(FleetMistake("x", code: .notFound).code == .notFound)
    }
}
