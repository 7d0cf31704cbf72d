using System;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using ExampleVpn;
using Xunit;

namespace Tuntrail.Tests
{
    /// <summary>The sample service's commands, with a real client, tunnel and server. Linux.</summary>
    public sealed class ServiceTests : IDisposable
    {
        private readonly Bench bench = new Bench(ClientTests.Server());
        private readonly string file = Path.GetTempFileName();
        private readonly Commands commands;

        public ServiceTests()
        {
            File.Delete(file);
            commands = new Commands(bench.Left, new Choices(file));
        }

        public void Dispose()
        {
            bench.Dispose();
            File.Delete(file);
        }

        [LinuxFact]
        public void A_user_can_have_everything_uploaded()
        {
            bench.Connect();
            bench.SendOne();
            string answer = Ask("upload the call broke off", false);
            Assert.True(answer.StartsWith("ok: BUG-", StringComparison.Ordinal));
            Assert.Contains(" 0 kept", answer);
            Assert.Contains("tunnel 1 peers", Ask("status", false));
        }

        [LinuxFact]
        public void Consent_is_kept_over_restarts_and_nothing_is_sent_without_it()
        {
            Assert.Equal("ok", Ask("consent denied", false));
            Assert.Equal(Consent.Denied, new Choices(file).Consent);
            Assert.True(Ask("upload now", false).StartsWith("error: ", StringComparison.Ordinal));
            Assert.Equal("ok", Ask("consent granted", false));
            Assert.Equal(Consent.Granted, new Choices(file).Consent);
        }

        [LinuxFact]
        public void Who_revokes_consent_doesnt_wait_for_an_upload_but_ends_it()
        {
            TcpListener silent = new TcpListener(IPAddress.Loopback, 0);
            silent.Start();
            try
            {
                using (Bench stalled = new Bench("http://" + silent.LocalEndpoint))
                {
                    Commands asked = new Commands(stalled.Left, new Choices(file));
                    Task<TcpClient> request = silent.AcceptTcpClientAsync();
                    Task<string> upload = asked.Answer("upload it stalls", false, CancellationToken.None);
                    Assert.True(request.Wait(Bench.Limit));
                    using (request.Result)
                    {
                        // Who asks meanwhile is answered, and holds no place.
                        Task<string> another = asked.Answer("upload again", false, CancellationToken.None);
                        Assert.True(another.Wait(Bench.Limit));
                        Assert.Contains("under way", another.Result);
                        Assert.False(upload.IsCompleted);

                        Task<string> denial = asked.Answer("consent denied", false, CancellationToken.None);
                        Assert.True(denial.Wait(Bench.Limit));
                        Assert.Equal("ok", denial.Result);
                        Assert.True(upload.Wait(Bench.Limit));
                        Assert.True(upload.Result.StartsWith("error: ", StringComparison.Ordinal));
                        Assert.Equal(Consent.Denied, new Choices(file).Consent);
                    }
                }
            }
            finally
            {
                silent.Stop();
            }
        }

        [LinuxFact]
        public void An_upload_ends_when_who_asked_has_gone()
        {
            TcpListener silent = new TcpListener(IPAddress.Loopback, 0);
            silent.Start();
            try
            {
                using (Bench stalled = new Bench("http://" + silent.LocalEndpoint))
                using (CancellationTokenSource gone = new CancellationTokenSource())
                {
                    Commands asked = new Commands(stalled.Left, new Choices(file));
                    Task<TcpClient> request = silent.AcceptTcpClientAsync();
                    Task<string> upload = asked.Answer("upload it stalls", false, gone.Token);
                    Assert.True(request.Wait(Bench.Limit));
                    using (request.Result)
                    {
                        gone.Cancel();
                        Assert.True(upload.Wait(Bench.Limit));
                        Assert.Equal("error: cancelled", upload.Result);
                    }
                }
            }
            finally
            {
                silent.Stop();
            }
        }

        [LinuxFact]
        public void A_denial_that_cant_be_kept_holds_all_the_same_and_is_told()
        {
            Choices choices = new Choices(Path.Combine(file, "no folder", "choices.txt"));
            Commands asked = new Commands(bench.Left, choices);
            Task<string> denial = asked.Answer("consent denied", false, CancellationToken.None);
            Assert.True(denial.Wait(Bench.Limit));
            Assert.Contains("can't be kept", denial.Result);
            Assert.True(Ask("upload now", false).StartsWith("error: ", StringComparison.Ordinal));
            Assert.Equal(Consent.Denied, choices.Consent);
        }

        [LinuxFact]
        public void Only_an_administrator_has_every_connection_recorded_and_anybody_less()
        {
            Assert.Contains("administrator", Ask("exit-flows full", false));
            Assert.Equal(ExitFlows.Aggregated, new Choices(file).ExitFlows);
            Assert.Equal("ok", Ask("exit-flows full", true));
            Assert.Equal(ExitFlows.Full, new Choices(file).ExitFlows);
            Assert.Equal("ok", Ask("exit-flows aggregated", false));
            Assert.Equal(ExitFlows.Aggregated, new Choices(file).ExitFlows);
        }

        [LinuxFact]
        public void What_is_no_command_is_refused_and_changes_nothing()
        {
            foreach (string line in new[] { "", "format c:", "consent", "consent maybe", "exit-flows", "exit-flows 1", "UPLOAD x" })
            {
                Assert.True(Ask(line, true).StartsWith("error: expected", StringComparison.Ordinal));
            }
            Assert.False(File.Exists(file));
        }

        [LinuxFact]
        public void A_file_of_choices_that_cant_be_understood_is_none()
        {
            foreach (string text in new[] { "", "Granted", "Granted\n7", "9\nFull", "yes\nFull", "Granted\nFull\nmore" })
            {
                File.WriteAllText(file, text);
                Assert.Equal(Consent.Unknown, new Choices(file).Consent);
                Assert.Equal(ExitFlows.Aggregated, new Choices(file).ExitFlows);
            }
        }

        private string Ask(string line, bool isAdministrator)
        {
            Task<string> answer = commands.Answer(line, isAdministrator, CancellationToken.None);
            Assert.True(answer.Wait(Bench.Limit));
            return answer.Result;
        }
    }
}
