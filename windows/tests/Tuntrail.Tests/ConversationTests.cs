using System;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using ExampleVpn;
using Xunit;

namespace Tuntrail.Tests
{
    /// <summary>How the sample service talks, over a connection of this machine in place of the pipe.</summary>
    public sealed class ConversationTests : IDisposable
    {
        /// <summary>For what is to be cut off; nothing else waits for it.</summary>
        private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(200);

        private readonly TcpClient asking = new TcpClient();
        private readonly TcpClient serving;
        private readonly CancellationTokenSource stopping = new CancellationTokenSource();

        public ConversationTests()
        {
            TcpListener listener = new TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            asking.Connect((IPEndPoint)listener.LocalEndpoint);
            serving = listener.AcceptTcpClient();
            listener.Stop();
        }

        public void Dispose()
        {
            asking.Close();
            serving.Close();
            stopping.Dispose();
        }

        [Fact]
        public void A_line_is_answered_by_a_line()
        {
            Task served = Serve(Bench.Limit, (line, isAdministrator, gone) => Task.FromResult(line + " " + isAdministrator));
            Say("status\r\n");
            Assert.Equal("status True", new StreamReader(asking.GetStream()).ReadLine());
            // Nobody closes before the other side has read.
            Assert.False(served.IsCompleted);
            asking.Close();
            Assert.True(served.Wait(Bench.Limit));
        }

        [Fact]
        public void Who_says_nothing_is_let_go_of()
        {
            Assert.True(Failure(Serve(Short, Unasked)) is OperationCanceledException);
        }

        [Fact]
        public void Who_doesnt_read_the_answer_is_let_go_of()
        {
            // More than the system takes for them.
            string answer = new string('x', 32 << 20);
            Say("status\n");
            Task served = Serve(Short, (line, isAdministrator, gone) => Task.FromResult(answer));
            Assert.True(Failure(served) is OperationCanceledException);
        }

        [Fact]
        public void Who_doesnt_close_after_the_answer_is_let_go_of()
        {
            Say("status\n");
            Task served = Serve(Short, (line, isAdministrator, gone) => Task.FromResult("ok"));
            Assert.True(Failure(served) is OperationCanceledException);
        }

        [Fact]
        public void Too_long_a_line_and_none_are_refused()
        {
            Task served = Serve(Bench.Limit, Unasked);
            Say(new string('x', Conversation.MaxLine));
            Assert.True(Failure(served) is IOException);
            served = Serve(Bench.Limit, Unasked);
            asking.Close();
            Assert.True(Failure(served) is IOException);
        }

        [Fact]
        public void What_is_asked_for_ends_when_who_asked_has_gone()
        {
            ManualResetEventSlim begun = new ManualResetEventSlim();
            ManualResetEventSlim cancelled = new ManualResetEventSlim();
            Task served = Serve(Bench.Limit, async (line, isAdministrator, gone) =>
            {
                TaskCompletionSource<string> never = new TaskCompletionSource<string>();
                gone.Register(() => never.SetResult("error: cancelled"));
                begun.Set();
                string answer = await never.Task;
                cancelled.Set();
                return answer;
            });
            Say("upload x\n");
            Assert.True(begun.Wait(Bench.Limit));
            Assert.False(cancelled.IsSet);
            asking.Close();
            Assert.True(cancelled.Wait(Bench.Limit));
            Failure(served);
        }

        [Fact]
        public void Stopping_ends_every_step()
        {
            Task served = Serve(Bench.Limit, Unasked);
            stopping.Cancel();
            Assert.True(Failure(served) is OperationCanceledException);
        }

        private Task Serve(TimeSpan limit, Conversation.Answering answer)
        {
            return Conversation.Serve(serving.GetStream(), () => true, answer, limit, stopping.Token);
        }

        private static Task<string> Unasked(string line, bool isAdministrator, CancellationToken gone)
        {
            throw new InvalidOperationException("nothing was asked");
        }

        private void Say(string text)
        {
            byte[] bytes = Encoding.UTF8.GetBytes(text);
            asking.GetStream().Write(bytes, 0, bytes.Length);
        }

        /// <summary>Why it ended; null if as it should.</summary>
        private static Exception Failure(Task task)
        {
            try
            {
                Assert.True(task.Wait(Bench.Limit));
                return null;
            }
            catch (AggregateException error)
            {
                return error.InnerException;
            }
        }
    }
}
