// The steps about uploads: what arrives, what holds them up, and the app's own HTTP.
using System;
using System.IO;
using System.Linq;
using System.Net;
using TestPeer;
using Tuntrail;

internal static partial class Program
{
    private static void Upload(App app)
    {
        CarriedFlow[] flows = { app.Network.Exchange(Place.NodeV6, 30000, 40000), app.Network.Exchange(Place.Subnet, 30000, 40000) };
        CarriedFlow exitFlow = app.Network.Exchange(Place.Internet, 1000, 2000);
        using (Upload upload = app.Client.Upload("scenario"))
        {
            UploadReport report = upload.Join();
            Check.True(report.Complete && report.Outcome is UploadOutcome.Complete && report.RemainingRecords == 0, report.Summary);
            Event.UploadProgress last = app.Recorder.WaitFor<Event.UploadProgress>(
                step => step.Progress.SentRecords == step.Progress.TotalRecords);
            Check.Equal(upload.Id(), last.Upload);
            Check.Equal(report.SentBytes, last.Progress.SentBytes);
            UploadReport ended = app.Recorder.WaitFor<Event.UploadEnded>(_ => true).Report;
            Check.Equal(report.SentRecords, ended.SentRecords);
            Check.Equal(report.SentBytes, upload.Report().SentBytes);
        }
        foreach (CarriedFlow flow in flows)
        {
            Check.Equal(Counts.Of(flow), app.Recorded(flow));
        }
        Check.Equal(4, app.Server.Flows(App.Windows).Select(row => row.Kind).Distinct().Count());
        Check.Equal(Counts.Of(exitFlow), Counts.Sum(app.ExitRows()));
        string text = string.Concat(app.Server.Entries(App.Windows));
        foreach (string name in new[] { "phone.example.com", "office.example.com", "user@example.com" })
        {
            Check.True(text.Contains(name), name);
        }
        Check.Equal(1, app.Server.Entries(App.Flows).Count(
            entry => entry.Contains("\"event\":\"open\"") && entry.Contains("\"10.20.0.5:22\"")));
    }

    private static void CancelledUpload(App app)
    {
        app.Server.Stall();
        CarriedFlow flow = app.Network.Exchange(Place.Node, 5000, 5000);
        using (Upload upload = app.Client.Upload("scenario"))
        {
            app.Server.WaitUntilStalled();
            Check.Equal(null, upload.Report());
            upload.Cancel();
            UploadReport report = upload.Join();
            Check.True(report.Outcome is UploadOutcome.Cancelled && !report.Complete && report.RemainingRecords > 0, report.Summary);
        }
        Check.Equal(new Counts(), app.Recorded(flow));
        app.Server.GoOn();
        app.Upload();
        Check.Equal(Counts.Of(flow), app.Recorded(flow));
        Check.Equal(0UL, app.Server.Duplicates());
    }

    private static void HeldUpUpload(App app)
    {
        CarriedFlow flow = app.Network.Exchange(Place.Node, 6000, 6000);
        app.Server.RefuseNext(403);
        using (Upload upload = app.Client.Upload("scenario"))
        {
            UploadOutcome.Unauthorized outcome = (UploadOutcome.Unauthorized)upload.Join().Outcome;
            Check.Equal((ushort)403, outcome.Status);
            Check.True(outcome.Detail.Contains("on purpose"), outcome.Detail);
        }
        app.Client.PauseUploads();
        ulong before = app.Server.Uploads();
        using (Upload upload = app.Client.Upload("scenario"))
        {
            Check.True(app.Client.Stats().Uploads.Paused);
            Check.Equal(null, upload.Report());
            Check.Equal(before, app.Server.Uploads());
            app.Client.ResumeUploads();
            Check.True(upload.Join().Complete);
        }
        Check.Equal(Counts.Of(flow), app.Recorded(flow));
    }

    private static void DebugUploadStep(App app)
    {
        DebugUpload debug = app.Client.RequestDebugUpload(new DebugRequest { Note = "It is slow." });
        using (Upload upload = debug.Upload)
        {
            Check.True(upload.Join().Complete && debug.Marker.StartsWith("BUG-", StringComparison.Ordinal), debug.Marker);
        }
        Check.Equal(1, app.Server.Entries(App.Diagnostics).Count(
            entry => entry.Contains(debug.Marker) && entry.Contains("\"It is slow.\"")));
        const string Command = "{\"v\":1,\"id\":\"case-1\",\"kind\":\"socket_stats\",\"seconds\":600}";
        CommandOutcome.RecordingSockets outcome = (CommandOutcome.RecordingSockets)app.Client.HandleCommand(Command);
        Check.Equal(TimeSpan.FromMinutes(10), outcome.Duration);
        Check.True(app.Client.HandleCommand(Command) is CommandOutcome.Duplicate);
        app.Client.DisableSocketStats();
        Check.Throws<TuntrailException.Config>(
            () => app.Client.HandleCommand("{\"v\":1,\"id\":\"case-2\",\"kind\":\"unheard of\"}"));
    }

    private static void HostTransport(App app)
    {
        ClientConfig config = app.Config("background");
        config.Uploads = new UploadSettings { HostTransport = true, Headers = new[] { new Header("x-app", "scenario") } };
        using (Client client = new Client(config))
        {
            Recorder recorder = new Recorder();
            client.SetListener(recorder);
            app.StartTunnel(client);
            CarriedFlow flow = app.Network.Exchange(Place.Node, 3000, 3000);
            using (Upload upload = client.Upload("scenario"))
            {
                recorder.WaitFor<Event.UploadWorkWaiting>(_ => true);
                Check.Throws<TuntrailException.Config>(
                    () => client.CompleteUploadTask(12345, new UploadTaskResult.Failed("on purpose")));
                for (UploadTask task = client.NextUploadTask(); !(task is UploadTask.Done); task = client.NextUploadTask())
                {
                    UploadTask.Send send = (UploadTask.Send)task;
                    client.CompleteUploadTask(send.Id, Send(send));
                }
                Check.True(upload.Join().Complete);
            }
            Check.Equal(Counts.Of(flow), app.Recorded(flow));
            app.Left = app.Network.Exchange(Place.Node, 4000, 4000);
            client.Shutdown();
        }
    }

    // What the app's own HTTP makes of a task.
    private static UploadTaskResult Send(UploadTask.Send task)
    {
        HttpWebRequest request = WebRequest.CreateHttp(task.Url);
        request.Method = "POST";
        request.AllowAutoRedirect = false;
        request.KeepAlive = false;
        Check.Equal("scenario", task.Headers.Single(header => header.Name == "x-app").Value);
        foreach (Header header in task.Headers)
        {
            if (header.Name.Equals("content-type", StringComparison.OrdinalIgnoreCase))
            {
                request.ContentType = header.Value;
            }
            else if (header.Name.Equals("user-agent", StringComparison.OrdinalIgnoreCase))
            {
                request.UserAgent = header.Value;
            }
            else
            {
                request.Headers.Add(header.Name, header.Value);
            }
        }
        using (System.IO.Stream body = request.GetRequestStream())
        {
            body.Write(task.Body, 0, task.Body.Length);
        }
        using (HttpWebResponse answer = (HttpWebResponse)request.GetResponse())
        using (MemoryStream body = new MemoryStream())
        {
            answer.GetResponseStream().CopyTo(body);
            return new UploadTaskResult.Answered((ushort)answer.StatusCode, answer.Headers["Retry-After"], body.ToArray());
        }
    }

    private static void Claim(App app)
    {
        ClientConfig config = app.Config("background");
        config.Role = Role.App;
        // No lines of the log, which go along with uploads.
        config.LogFilter = "off";
        using (Client client = new Client(config))
        {
            using (Upload upload = client.Upload("scenario"))
            {
                Check.True(upload.Join().Outcome is UploadOutcome.NothingToSend);
            }
            Check.True(client.Claim(Role.Extension) > 0);
            app.Upload(client);
            Check.Equal(Counts.Of(app.Left), app.Recorded(app.Left));
        }
    }
}
