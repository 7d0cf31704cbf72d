using System;
using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Xunit;

namespace Tuntrail.Tests
{
    /// <summary>The library with its tasks and events, against the real server and a real tunnel. Linux.</summary>
    public sealed class ClientTests
    {
        [LinuxFact]
        public void An_upload_tells_its_progress_and_its_result()
        {
            using (Bench bench = new Bench(Server()))
            {
                bench.Connect();
                bench.SendOne();
                Recorder<UploadProgress> progress = new Recorder<UploadProgress>();
                Recorder<UploadProgressEventArgs> everybody = new Recorder<UploadProgressEventArgs>();
                Recorder<UploadEndedEventArgs> ended = new Recorder<UploadEndedEventArgs>();
                bench.Left.UploadProgressed += everybody.Handle;
                bench.Left.UploadEnded += ended.Handle;

                UploadReport report = Result(bench.Left.UploadAsync("test", progress));

                Assert.Equal("Complete", report.Outcome.GetType().Name);
                Assert.True(report.Complete);
                Assert.True(report.SentRecords >= 1);
                Assert.True(progress.Next().TotalRecords >= 1);
                Assert.True(everybody.Next().Upload > 0);
                Assert.Equal(report.SentRecords, ended.Next().Report.SentRecords);
            }
        }

        [LinuxFact]
        public void A_debug_upload_has_a_marker_its_progress_and_its_result()
        {
            using (Bench bench = new Bench(Server()))
            {
                Recorder<UploadProgress> progress = new Recorder<UploadProgress>();
                DebugReport debug = Result(bench.Left.DebugUploadAsync(new DebugRequest { Note = "it broke off" }, progress));
                Assert.True(debug.Marker.StartsWith("BUG-", StringComparison.Ordinal));
                Assert.True(debug.Report.Complete);
                // The request is a record itself.
                Assert.True(debug.Report.SentRecords >= 1);
                Assert.True(progress.Next().TotalRecords >= 1);
            }
        }

        [LinuxFact]
        public void A_cancelled_upload_throws_and_keeps_its_records()
        {
            TcpListener silent = new TcpListener(IPAddress.Loopback, 0);
            silent.Start();
            try
            {
                using (Bench bench = new Bench("http://" + silent.LocalEndpoint))
                using (CancellationTokenSource cancellation = new CancellationTokenSource())
                {
                    bench.Connect();
                    bench.SendOne();
                    Task<TcpClient> asked = silent.AcceptTcpClientAsync();
                    Task<UploadReport> upload = bench.Left.UploadAsync("test", null, cancellation.Token);
                    using (Result(asked))
                    {
                        // The request is under way, and is never answered.
                        Assert.False(upload.IsCompleted);
                        cancellation.Cancel();
                        AggregateException error = Assert.Throws<AggregateException>(() => upload.Wait(Bench.Limit));
                        Assert.True(error.InnerException is OperationCanceledException);
                    }
                    Assert.True(bench.Left.Client.Stats().Store.Windows.Appended >= 1);
                    Assert.Equal(0UL, bench.Left.Client.Stats().Store.Windows.Dropped);
                }
            }
            finally
            {
                silent.Stop();
            }
        }

        [LinuxFact]
        public void An_upload_that_is_cancelled_before_it_begins_sends_nothing()
        {
            using (Bench bench = new Bench(Server()))
            using (CancellationTokenSource cancellation = new CancellationTokenSource())
            {
                cancellation.Cancel();
                Task<UploadReport> upload = bench.Left.UploadAsync("test", null, cancellation.Token);
                Assert.True(upload.IsCanceled);
                Assert.Equal(0UL, bench.Left.Client.Stats().Uploads.Uploads);
            }
        }

        [LinuxFact]
        public void An_upload_without_consent_is_an_error_of_the_task()
        {
            using (Bench bench = new Bench(Server()))
            {
                Result(bench.Left.SetConsentAsync(Consent.Denied).ContinueWith(done => done.IsFaulted));
                Task<UploadReport> upload = bench.Left.UploadAsync("test");
                AggregateException error = Assert.Throws<AggregateException>(() => upload.Wait(Bench.Limit));
                Assert.True(error.InnerException is TuntrailException.NoConsent);
            }
        }

        [LinuxFact]
        public void Events_of_the_tunnel_reach_their_handlers()
        {
            using (Bench bench = new Bench(Server()))
            {
                Recorder<PeerEventArgs> connected = new Recorder<PeerEventArgs>();
                ManualResetEventSlim ended = new ManualResetEventSlim();
                bench.Left.PeerConnected += connected.Handle;
                bench.Left.TunnelDeviceEnded += (sender, nothing) => ended.Set();
                bench.Connect();
                bench.SendOne();
                Assert.Equal(bench.RightKey, connected.Next().PublicKey);
                Assert.False(ended.IsSet);
                bench.LeftEnd.Dispose();
                Assert.True(ended.Wait(Bench.Limit));
            }
        }

        [LinuxFact]
        public void A_handler_that_throws_is_counted_and_the_next_event_comes()
        {
            using (Bench bench = new Bench(Server()))
            {
                ManualResetEventSlim ended = new ManualResetEventSlim();
                bench.Left.PeerConnected += (sender, peer) => { throw new InvalidOperationException("on purpose"); };
                bench.Left.TunnelDeviceEnded += (sender, nothing) => ended.Set();
                bench.Connect();
                bench.SendOne();
                bench.LeftEnd.Dispose();
                Assert.True(ended.Wait(Bench.Limit));
                Assert.Equal(1UL, bench.Left.Client.Stats().Events.Failed);
            }
        }

        [LinuxFact]
        public void There_is_no_wintun_here_and_nothing_is_left_behind()
        {
            using (Bench bench = new Bench(Server()))
            {
                WintunOptions options = new WintunOptions(@"C:\wintun.dll", "test") { SkipLibraryCheck = true };
                TuntrailException.Config error = Assert.Throws<TuntrailException.Config>(
                    () => WintunTunnel.Start(bench.Left.Client, PlanTests.Config("10.9.0.1/32", "10.9.0.0/24"), options));
                Assert.Contains("no Wintun", error.Message);
                bench.Connect();
            }
        }

        /// <summary>The reference server, which the Rust test starts.</summary>
        internal static string Server()
        {
            string url = Environment.GetEnvironmentVariable("TUNTRAIL_TEST_SERVER");
            if (string.IsNullOrEmpty(url))
            {
                throw new InvalidOperationException(
                    "TUNTRAIL_TEST_SERVER is not set: start `tuntrail serve` and set it to its address, or run the tests by cargo");
            }
            return url;
        }

        private static T Result<T>(Task<T> task)
        {
            Assert.True(task.Wait(Bench.Limit));
            return task.Result;
        }

        /// <summary>Keeps what it is told.</summary>
        private sealed class Recorder<T> : IProgress<T>
        {
            private readonly BlockingCollection<T> told = new BlockingCollection<T>();

            public void Report(T value)
            {
                told.Add(value);
            }

            internal void Handle(object sender, T arguments)
            {
                told.Add(arguments);
            }

            internal T Next()
            {
                T value;
                Assert.True(told.TryTake(out value, Bench.Limit));
                return value;
            }
        }
    }
}
