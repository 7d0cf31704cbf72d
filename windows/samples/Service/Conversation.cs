using System;
using System.IO;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace ExampleVpn
{
    /// <summary>
    /// One question and its answer, between the service and somebody who may mean it ill: who sends nothing, too much, or doesn't read
    /// what comes, is let go of after a while. Whoever serves closes the stream then, which also ends what is still under way on it.
    /// </summary>
    internal static class Conversation
    {
        /// <summary>Longer than any command.</summary>
        internal const int MaxLine = 512;

        /// <summary>What answers: the line, whether who asks is an administrator, and what ends it when who asked has gone.</summary>
        internal delegate Task<string> Answering(string line, bool isAdministrator, CancellationToken gone);

        /// <summary>Reads a line, answers it, and waits until the other side has the answer and closes.</summary>
        /// <param name="stream">To the other side; can be read and written at the same time.</param>
        /// <param name="isAdministrator">Asked once something has been read.</param>
        /// <param name="answer">Answers.</param>
        /// <param name="limit">For each step of the other side.</param>
        /// <param name="stopping">Ends everything.</param>
        /// <exception cref="IOException">The other side has gone, or said too much.</exception>
        /// <exception cref="OperationCanceledException">It was too slow, or the service stops.</exception>
        internal static async Task Serve(
            Stream stream, Func<bool> isAdministrator, Answering answer, TimeSpan limit, CancellationToken stopping)
        {
            Task<string> reading = ReadLine(stream);
            await Within(reading, limit, stopping).ConfigureAwait(false);
            bool trusted = isAdministrator();
            using (CancellationTokenSource gone = CancellationTokenSource.CreateLinkedTokenSource(stopping))
            {
                // Nothing more is to come: this ends when the other side closes.
                Task<int> end = stream.ReadAsync(new byte[1], 0, 1, CancellationToken.None);
                Task<string> answering = answer(reading.Result, trusted, gone.Token);
                if (await Task.WhenAny(answering, end).ConfigureAwait(false) == end)
                {
                    gone.Cancel();
                }
                byte[] bytes = Encoding.UTF8.GetBytes(await answering.ConfigureAwait(false) + "\n");
                await Within(stream.WriteAsync(bytes, 0, bytes.Length, CancellationToken.None), limit, stopping).ConfigureAwait(false);
                await Within(end, limit, stopping).ConfigureAwait(false);
            }
        }

        private static async Task<string> ReadLine(Stream stream)
        {
            byte[] line = new byte[MaxLine];
            for (int length = 0; length < MaxLine; length++)
            {
                if (await stream.ReadAsync(line, length, 1, CancellationToken.None).ConfigureAwait(false) == 0)
                {
                    throw new EndOfStreamException("no line came");
                }
                if (line[length] == '\n')
                {
                    return Encoding.UTF8.GetString(line, 0, length).TrimEnd('\r');
                }
            }
            throw new IOException("a line is longer than " + MaxLine + " bytes");
        }

        /// <summary>Waits by the clock and not by tokens, which not every runtime's pipes heed.</summary>
        private static async Task Within(Task work, TimeSpan limit, CancellationToken stopping)
        {
            using (CancellationTokenSource waited = CancellationTokenSource.CreateLinkedTokenSource(stopping))
            {
                Task first = await Task.WhenAny(work, Task.Delay(limit, waited.Token)).ConfigureAwait(false);
                waited.Cancel();
                if (first != work)
                {
                    throw new OperationCanceledException("the other side was too slow, or the service stops");
                }
                await work.ConfigureAwait(false);
            }
        }
    }
}
