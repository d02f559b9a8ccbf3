import AdminAPI
import ClusterBase
import CommandSyntax
import Glibc
import Terminal

// `muster vm console`: what is typed goes to the guest, and what it writes comes back, through whatever node is asked.

extension FleetClient {
    /// Ctrl and ].
    private static let escape: UInt8 = 0x1D
    /// Between questions while something happens, and while nothing does.
    private static let pauses = (least: Int32(40), most: Int32(250))
    /// After the end of what is to be typed, the guest gets so long to say something.
    private static let lastWords = 1.0

    func console() throws -> ExitCode {
        let path = ["v1", "vms", word("VM"), "console"]
        let isTerminal = isatty(0) == 1
        var before = termios()
        if isTerminal, tcgetattr(0, &before) == 0 {
            var raw = before
            cfmakeraw(&raw)
            tcsetattr(0, TCSANOW, &raw)
            Console.complain("The console of \(word("VM")); leave it with Ctrl-].\r")
        }
        defer {
            if isTerminal {
                tcsetattr(0, TCSANOW, &before)
                Console.complain("")
            }
        }
        var random = SystemRandomNumberGenerator()
        var turn = ConsoleTurn(session: "s" + String(random.next(), radix: 36))
        turn.from = line.has("from-start") ? 0 : nil
        var (pause, isOver, heardAt) = (FleetClient.pauses.least, false, Console.seconds())
        while true {
            turn.typed = []
            if !isOver { isOver = !readTyped(&turn.typed, waiting: pause) } else { usleep(UInt32(pause) * 1_000) }
            if isTerminal, let end = turn.typed.firstIndex(of: FleetClient.escape) {
                turn.typed = Array(turn.typed[..<end])
                isOver = true
            }
            let answer = try post(path, tenantQuery, .object(turn.members))
            turn.typedBefore += Int64(turn.typed.count)
            turn.from = answer["next"]?.whole ?? turn.from
            let text = Base64.decode((answer["base64"]?.text ?? "").utf8) ?? []
            if !text.isEmpty { Console.write(bytes: text, to: 1) }
            if !text.isEmpty || !turn.typed.isEmpty {
                (pause, heardAt) = (FleetClient.pauses.least, Console.seconds())
            } else {
                pause = min(FleetClient.pauses.most, pause * 2)
            }
            if isOver, isTerminal || Console.seconds() - heardAt > FleetClient.lastWords { return .success }
        }
    }

    /// False at the end of what is to be typed.
    private func readTyped(_ typed: inout [UInt8], waiting milliseconds: Int32) -> Bool {
        var descriptor = pollfd(fd: 0, events: Int16(POLLIN), revents: 0)
        guard poll(&descriptor, 1, milliseconds) > 0 else { return true }
        var part = [UInt8](repeating: 0, count: ConsoleTurn.typedBytesMax)
        let count = read(0, &part, part.count)
        if count < 0 && errno == EINTR { return true }
        if count <= 0 { return false }
        typed = Array(part[..<count])
        return true
    }
}
