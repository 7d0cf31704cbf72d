using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using ExampleVpn;
using Xunit;

namespace Tuntrail.Tests
{
    /// <summary>How the sample service starts its tunnel on a machine that has no network yet.</summary>
    public sealed class PersistenceTests
    {
        private readonly List<string> told = new List<string>();
        private readonly CancellationTokenSource stopping = new CancellationTokenSource();
        private readonly BlockingCollection<TaskCompletionSource<bool>> changes =
            new BlockingCollection<TaskCompletionSource<bool>>();
        private readonly List<double> pauses = new List<double>();
        private int changesLeftToTheirToken;

        [Fact]
        public void It_starts_with_the_network_and_tells_once_that_it_waits()
        {
            int attempts = 0;
            Task<string> started = Start(() => ++attempts < 3 ? throw new TimeoutException("no network") : "started");
            Awaited().SetResult(true);
            TaskCompletionSource<bool> second = Awaited();
            Assert.False(started.IsCompleted);
            second.SetResult(true);
            Assert.True(started.Wait(Bench.Limit));
            Assert.Equal(3, attempts);
            Assert.Equal("started", started.Result);
            Assert.Equal("no network", string.Join(" ", told));
            Assert.Equal(1, changesLeftToTheirToken);
        }

        [Fact]
        public void Pauses_double_up_to_a_quarter_of_an_hour_and_begin_anew_with_a_change()
        {
            Task<string> started = Start(() => throw new TimeoutException("no network"));
            for (int pause = 0; pause < 10; pause++)
            {
                Awaited().SetResult(false);
            }
            Awaited().SetResult(true);
            Awaited();
            stopping.Cancel();
            Assert.Throws<AggregateException>(() => started.Wait(Bench.Limit));
            Assert.Equal("5 10 20 40 80 160 320 640 900 900 900 5", string.Join(" ", pauses));
        }

        [Fact]
        public void What_wont_pass_ends_it()
        {
            Task<string> started = Start(() => throw new FormatException("wrong"));
            Assert.True(Assert.Throws<AggregateException>(() => started.Wait(Bench.Limit)).InnerException is FormatException);
            Assert.Equal(0, told.Count);
            Assert.Equal(1, changesLeftToTheirToken);
        }

        [Fact]
        public void Stopping_ends_the_waiting()
        {
            Task<string> started = Start(() => throw new TimeoutException("no network"));
            stopping.Cancel();
            Assert.True(
                Assert.Throws<AggregateException>(() => started.Wait(Bench.Limit)).InnerException is OperationCanceledException);
        }

        private Task<string> Start(Func<string> start)
        {
            return Persistence.Start(start, error => error is TimeoutException, error => told.Add(error.Message), NextChange,
                stopping.Token);
        }

        /// <summary>The next change that it waits for.</summary>
        private TaskCompletionSource<bool> Awaited()
        {
            TaskCompletionSource<bool> change;
            Assert.True(changes.TryTake(out change, Bench.Limit));
            return change;
        }

        private Task<bool> NextChange(TimeSpan pause, CancellationToken ended)
        {
            pauses.Add(pause.TotalSeconds);
            TaskCompletionSource<bool> next = new TaskCompletionSource<bool>();
            ended.Register(() =>
            {
                if (next.TrySetResult(false))
                {
                    changesLeftToTheirToken++;
                }
            });
            changes.Add(next);
            return next.Task;
        }
    }
}
