using System;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using Tuntrail;

namespace ExampleVpn
{
    /// <summary>
    /// What the user's interface may ask of the service: one line in, one line out. Any thread. Changes wait for each other, and for
    /// nothing else: who revokes consent doesn't wait for an upload, but ends it.
    /// </summary>
    public sealed class Commands
    {
        private readonly TuntrailClient client;
        private readonly Choices choices;
        private readonly SemaphoreSlim changing = new SemaphoreSlim(1);
        // 1 while one is asked for here: several would hold all the places of those who ask.
        private int uploading;

        /// <summary>Commands for a client.</summary>
        public Commands(TuntrailClient client, Choices choices)
        {
            this.client = client;
            this.choices = choices;
        }

        /// <summary>Does what a line says, and returns what to tell. Never throws for what the other side says.</summary>
        /// <param name="line">The command.</param>
        /// <param name="isAdministrator">Whether who asks is one, with elevated rights.</param>
        /// <param name="cancellationToken">Ends an upload: who asked has gone, or the service stops.</param>
        public async Task<string> Answer(string line, bool isAdministrator, CancellationToken cancellationToken)
        {
            try
            {
                string[] words = line.Split(new[] { ' ' }, 2);
                string argument = words.Length == 2 ? words[1].Trim() : "";
                switch (words[0])
                {
                    case "status":
                        return await Status().ConfigureAwait(false);
                    case "upload":
                        return await Upload(argument, cancellationToken).ConfigureAwait(false);
                    case "consent":
                        return await Change(() => SetConsent(argument), cancellationToken).ConfigureAwait(false);
                    case "exit-flows":
                        return await Change(() => SetExitFlows(argument, isAdministrator), cancellationToken).ConfigureAwait(false);
                    default:
                        return "error: expected status, upload NOTE, consent granted|denied, or exit-flows full|aggregated";
                }
            }
            catch (TuntrailException error)
            {
                return "error: " + error.Message;
            }
            catch (OperationCanceledException)
            {
                return "error: cancelled";
            }
            catch (Exception error) when (error is IOException || error is UnauthorizedAccessException)
            {
                return "error: the choice holds until the service ends, as it can't be kept: " + error.Message;
            }
        }

        private async Task<string> Change(Func<Task<string>> change, CancellationToken cancellationToken)
        {
            await changing.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                return await change().ConfigureAwait(false);
            }
            finally
            {
                changing.Release();
            }
        }

        private async Task<string> Status()
        {
            ClientStats stats = await client.StatsAsync().ConfigureAwait(false);
            string log = client.Client.LogId() ?? "none";
            return "consent " + choices.Consent + ", exit flows " + choices.ExitFlows + ", log " + log
                + ", tunnel " + (stats.Tunnel == null ? "none" : stats.Tunnel.Peers.Count + " peers");
        }

        private async Task<string> Upload(string note, CancellationToken cancellationToken)
        {
            if (Interlocked.Exchange(ref uploading, 1) != 0)
            {
                return "error: an upload is under way";
            }
            try
            {
                DebugReport debug = await client.DebugUploadAsync(new DebugRequest { Note = note }, null, cancellationToken)
                    .ConfigureAwait(false);
                UploadReport report = debug.Report;
                return (report.Complete ? "ok: " : "error: ") + debug.Marker + ", " + report.Summary + ", " + report.SentRecords
                    + " sent, " + report.RemainingRecords + " kept";
            }
            finally
            {
                Interlocked.Exchange(ref uploading, 0);
            }
        }

        private async Task<string> SetConsent(string argument)
        {
            Consent consent = argument == "granted" ? Consent.Granted : Consent.Denied;
            if (argument != "granted" && argument != "denied")
            {
                return "error: expected granted or denied, not \"" + argument + "\"";
            }
            // A denial is kept first: should the service be killed now, nothing is recorded after its next start. A grant is kept last.
            try
            {
                if (consent == Consent.Denied)
                {
                    choices.Save(consent, choices.ExitFlows);
                }
            }
            finally
            {
                // A denial that can't be kept holds for now all the same.
                await client.SetConsentAsync(consent).ConfigureAwait(false);
            }
            if (consent == Consent.Granted)
            {
                choices.Save(consent, choices.ExitFlows);
            }
            return "ok";
        }

        /// <summary>More may be recorded only if an administrator says so; anybody may have less recorded.</summary>
        private Task<string> SetExitFlows(string argument, bool isAdministrator)
        {
            if (argument != "full" && argument != "aggregated")
            {
                return Task.FromResult("error: expected full or aggregated, not \"" + argument + "\"");
            }
            if (argument == "full" && !isAdministrator)
            {
                return Task.FromResult("error: only an administrator may have every connection recorded");
            }
            ExitFlows exitFlows = argument == "full" ? ExitFlows.Full : ExitFlows.Aggregated;
            client.Client.SetExitFlows(exitFlows);
            choices.Save(choices.Consent, exitFlows);
            return Task.FromResult("ok");
        }
    }
}
